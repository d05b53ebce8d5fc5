# What the tests of packages share: asserting, and throw-away roots.
# shellcheck shell=bash

passed=0

# What is being tested, for messages.
about=

flunk() {
    printf 'FAILED %s: %s\n' "$about" "$1" >&2
    if [[ -n ${2-} && -s $2 ]]; then
        sed 's/^/    /' "$2" >&2
    fi
    exit 1
}

pass() {
    passed=$((passed + 1))
}

# is WHAT GOT WANTED
is() {
    [[ $2 == "$3" ]] || flunk "$1 is '$2', not '$3'" "${box-}/said"
    pass
}

# has FILE TEXT: a line of the file has the text.
has() {
    grep -qF -- "$2" "$1" || flunk "no line of $1 has: $2" "$1"
    pass
}

has_not() {
    ! grep -qF -- "$2" "$1" || flunk "a line of $1 has: $2" "$1"
    pass
}

there() {
    [[ -e $1 ]] || flunk "$1 is not there"
    pass
}

# add_libraries ROOT FILE: those that a program needs; a static one needs none.
add_libraries() {
    local library
    while read -r library; do
        [[ -e $1$library ]] || install -D -m 755 "$library" "$1$library"
    done < <(ldd "$2" 2>/dev/null | grep -oE '/[^ ]+' || true)
}

# busybox_root ROOT: a root with nothing but busybox in it, and with what OpenWrt's
# has not taken away. Standard devices and /proc are those of this machine.
busybox_root() {
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,proc,tmp,var/tmp,var/run,run,root,mnt,etc}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    install -m 755 "$(command -v busybox)" "$root/bin/busybox"
    add_libraries "$root" "$root/bin/busybox"
    for applet in $(busybox --list); do
        case $applet in
        busybox | stat | flock | ionice | logger | realpath | nproc | getopt | mountpoint) ;;
        *) ln -s busybox "$root/bin/$applet" ;;
        esac
    done
    mount --rbind /dev "$root/dev"
    mount --rbind /proc "$root/proc"
}

# logger_stub PLACE LOG: takes the place of logger, and of syslog.
logger_stub() {
    mkdir -p "${1%/*}"
    cat >"$1" <<STUB
#!/bin/sh
printf '%s\n' "\$*" >>$2
STUB
    chmod 755 "$1"
}
