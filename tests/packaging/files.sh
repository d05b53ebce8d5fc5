# The files for platforms: syntax, and that they, the pages and each other agree.
# shellcheck shell=bash disable=SC2154

# All that a POSIX shell on a device runs.
device_scripts() {
    find packaging -type f -exec grep -lE '^#!/bin/sh' {} + | sort
}

test_syntax() {
    local file
    for file in $(device_scripts); do
        about=$file
        dash -n "$file" || flunk "dash"
        busybox ash -n "$file" || flunk "busybox ash"
        case $file in
        */tiroir.init) shellcheck "$file" >"$work/said" || flunk shellcheck "$work/said" ;;
        *) shellcheck -s sh "$file" >"$work/said" || flunk shellcheck "$work/said" ;;
        esac
        pass
    done
    for file in scripts/{package,release-sign}; do
        about=$file
        shellcheck "$file" >"$work/said" || flunk shellcheck "$work/said"
        pass
    done
    # Pieces of one script: what one sets, another reads.
    for file in scripts/packaging-test tests/packaging/*; do
        about=$file
        shellcheck -x -P SCRIPTDIR -e SC2016,SC2034,SC2154,SC2317 "$file" >"$work/said" ||
            flunk shellcheck "$work/said"
        pass
    done
    about=scripts/package-apk
    python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' scripts/package-apk || flunk python
}

# Keys in the example, in the runner and in the init script are the same.
test_keys() {
    about="keys of jobs"
    local example runner init
    example=$(grep -oE '^#?[a-z_]+ [^ ]' packaging/common/example.conf | grep -oE '[a-z_]{2,}' | sort -u)
    runner=$(sed -n '/^        program | store/,/there is no key/p' packaging/common/tiroir-job |
        grep -E '^ {8}[a-z]|^ {12}names \|' | sed 's/).*//' | grep -oE '[a-z_]+' | sort -u)
    # shellcheck source=/dev/null
    init=$(. ./packaging/openwrt/tiroir.init && echo "$KEYS $LISTS" | grep -oE '[a-z_]+' | sort -u)
    diff <(echo "$example") <(echo "$init") >"$work/said" || flunk "example and init script" "$work/said"
    pass
    diff <(echo "$example") <(echo "$runner") >"$work/said" || flunk "example and runner" "$work/said"
    pass
}

# What pages name is there, and what is there is named.
test_pages() {
    about="pages"
    local path file
    while read -r path; do
        there "${path%.}"
    done < <(grep -ohE 'packaging/[a-z]+/[A-Za-z0-9@._-]+' firmware-notes/*.md README.md docs/*.md | sort -u)
    while read -r file; do
        grep -qF "$file" firmware-notes/*.md || flunk "no page names $file"
        pass
    done < <(find packaging -mindepth 2 -type f -not -path 'packaging/debian/*' -not -name postinst -not -name prerm)
    for file in firmware-notes/[a-z]*.md; do
        about=$file
        has firmware-notes/README.md "(${file##*/})"
        has "$file" "## What was tried"
        has "$file" "Cache and spool"
    done
}

test_units() {
    about="units of systemd"
    local unit=$work/units
    mkdir "$unit"
    cp packaging/systemd/* "$unit"
    # The programs are not installed here.
    sed -i "s|^ExecStart=/usr/bin/tiroir-job|ExecStart=$PWD/packaging/common/tiroir-job|; /^Documentation=/d" \
        "$unit/tiroir-backup@.service"
    cp "$unit/tiroir-backup@.service" "$unit/tiroir-backup@home.service"
    cp "$unit/tiroir-backup@.timer" "$unit/tiroir-backup@home.timer"
    systemd-analyze verify --man=no "$unit/tiroir-backup@home.service" "$unit/tiroir-backup@home.timer" \
        >"$work/said" 2>&1 || flunk verify "$work/said"
    has_not "$work/said" tiroir-backup
    # A tenth of points; lower is better.
    systemd-analyze security --offline=true --threshold=26 "$unit/tiroir-backup@home.service" \
        >"$work/said" 2>&1 || flunk "more exposed than 2.6" "$work/said"
    pass
    is "the time of the timer" "$(systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' packaging/systemd/tiroir-backup@.timer)" |
        sed -n 's/.*Normalized form: //p')" "*-*-* 02:30:00"
}

# The small scripts of NAS, with a runner in place of the real one.
test_small_scripts() {
    local folder=$work/nas box=$work/nas status
    mkdir -p "$folder/tools"
    cp packaging/qnap/install-crontab.sh "$folder"
    for status in 0 3 69; do
        printf '#!/bin/sh\necho "$1" >%s\nexit %s\n' "$folder/ran" "$status" >"$folder/tiroir-job"
        chmod 755 "$folder/tiroir-job"
        for script in synology truenas; do
            about="packaging/$script/task.sh"
            cp "packaging/$script/task.sh" "$folder/task.sh"
            is status "$(status_of sh "$folder/task.sh" home)" "$status"
            is "the job" "$(cat "$folder/ran")" "$folder/home.conf"
        done
    done
    about="packaging/qnap/install-crontab.sh"
    printf '#!/bin/sh\ncat "$1" >%s\n' "$folder/installed" >"$folder/tools/crontab"
    chmod 755 "$folder/tools/crontab"
    echo '0 4 * * * /sbin/other' >"$folder/crontab"
    qnap() { status_of env "PATH=$folder/tools:$PATH" "CRONTAB_FILE=$folder/crontab" sh "$folder/install-crontab.sh" "$@"; }
    is status "$(qnap home '30 3 * * *')" 0
    is status "$(qnap home '45 3 * * *')" 0
    is "what was installed" "$(cat "$folder/installed")" "0 4 * * * /sbin/other
45 3 * * * $folder/tiroir-job $folder/home.conf"
    is "a schedule with a command" "$(qnap home '* * * * * reboot;')" 64
    is "no schedule" "$(qnap home)" 64
    is status "$(qnap home off)" 0
    is "what was installed" "$(cat "$folder/installed")" '0 4 * * * /sbin/other'
}
