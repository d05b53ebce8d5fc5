# What tiroir-job does, with a real program and real stores. `job` and `tiroir` are
# the caller's: they run in a throw-away root, or on this machine. $box is a folder,
# as seen from here, and $in the same, as seen from there.
# shellcheck shell=bash disable=SC2154

# write_job NAME [LINE...]
write_job() {
    local name=$1
    shift
    printf '%s\n' "store $in/store" "keyfile $in/passphrase" "source $in/source" "cache $in/cache" \
        "spool $in/spool" "state $in/state" "log syslog" "any_place yes" "$@" >"$box/jobs/$name.conf"
    chmod 600 "$box/jobs/$name.conf"
}

# runs STATUS NAME [OPTION]: a job, and how it ends; what it says is in $box/said,
# what it logs in $box/log.
runs() {
    local status=0
    : >"$box/log"
    job ${3+"$3"} "$2" >"$box/said" 2>&1 || status=$?
    [[ $status == "$1" ]] || {
        cat "$box/log" >>"$box/said"
        flunk "the job $2 ends with $status, not $1" "$box/said"
    }
    pass
}

snapshots() {
    tiroir -quiet -keyfile "$in/passphrase" --cache-dir "$in/cache" --spool "$in/spool" \
        at "$in/store" ls | wc -l
}

prepare_box() {
    mkdir -p "$box"/{source,jobs,spool,state,disk}
    mkdir "$box/source/with a blank"
    echo one >"$box/source/one"
    echo two >"$box/source/with a blank/two"
    echo three >"$box/source/three.tmp"
    printf 'a drawer slides into the closet\n' >"$box/passphrase"
    printf 'and out again it does not come\n' >"$box/wrong"
    chmod 600 "$box/passphrase" "$box/wrong"
    tiroir -keyfile "$in/passphrase" at "$in/store" create -kdf-memory 19M 2>"$box/said" ||
        flunk "no store" "$box/said"
}

test_success() {
    about="$where: success"
    write_job home "ignore *.tmp" "source $in/source/with a blank" "tag nightly"
    runs 0 home
    has "$box/log" "-p daemon.notice home: done (status 0, "
    has "$box/log" "backup completed"
    is "what is said on standard error" "$(cat "$box/said")" ""
    is snapshots "$(snapshots)" 1
    tiroir -quiet -keyfile "$in/passphrase" --cache-dir "$in/cache" at "$in/store" restore -to "$in/back" \
        >"$box/said" 2>&1 || flunk restore "$box/said"
    is "what is restored" "$(cd "$box/back" && find . -type f | sort | tr '\n' ' ')" \
        "./one ./with a blank/two "
    cmp "$box/source/with a blank/two" "$box/back/with a blank/two" || flunk "content"
    has "$box/state/home.state" "last_status 0"
    runs 0 home --status
    has "$box/said" "home: was done 0 hours ago"
    runs 0 home
    is snapshots "$(snapshots)" 2
}

test_spellings() {
    about="$where: the file of a job"
    # As from Windows, and without an end.
    write_job typed
    sed -i 's/$/\r/' "$box/jobs/typed.conf"
    printf 'name typed' >>"$box/jobs/typed.conf"
    runs 0 typed
    write_job typed "colour blue"
    runs 64 typed
    has "$box/said" "typed.conf:9: there is no key colour"
    write_job typed "check_days often"
    runs 64 typed
    has "$box/said" "check_days is a number, not often"
    write_job typed 'tag $(touch '"$in"'/bad);`touch '"$in"'/bad`'
    runs 0 typed
    [[ ! -e $box/bad ]] || flunk "a value was run"
    write_job typed
    chmod 620 "$box/jobs/typed.conf"
    runs 64 typed
    has "$box/said" "may be written by others"
    runs 64 nothing
    has "$box/said" "there is no nothing.conf"
    runs 64 "no/such.conf"
    runs 64 ''
}

test_secrets() {
    about="$where: passphrases"
    local before
    before=$(snapshots)
    write_job wrong
    sed -i "s|^keyfile .*|keyfile $in/wrong|" "$box/jobs/wrong.conf"
    runs 77 wrong
    has "$box/log" "-p daemon.err wrong: not done: the passphrase or key does not open the store (status 77"
    has "$box/said" "does not open the store"
    has "$box/state/wrong.state" "last_status 77"
    has "$box/state/wrong.state" "last_success 0"
    runs 77 wrong --status
    has "$box/said" "was never done"
    chmod 640 "$box/wrong"
    runs 77 wrong
    has "$box/said" "others may read the passphrase"
    rm "$box/wrong"
    runs 77 wrong
    has "$box/said" "there is no file $in/wrong"
    is snapshots "$(snapshots)" "$before"
    tiroir -keyfile "$in/passphrase" at "$in/store" key -o "$in/key" 2>/dev/null || flunk key
    write_job key
    sed -i "s|^keyfile .*|derived_key $in/key|" "$box/jobs/key.conf"
    runs 0 key
    is snapshots "$(snapshots)" $((before + 1))
}

test_mounts() {
    about="$where: mounts"
    local disk="$box/a disk" before
    mkdir "$disk"
    before=$(snapshots)
    write_job usb "mounted $in/a disk"
    runs 69 usb
    has "$box/log" "-p daemon.err usb: not done: $in/a disk is not mounted"
    write_job usb "mounted $in/a disk" "missing skip" "overdue_days 3" "plug_wait 1"
    runs 0 usb
    has "$box/log" "-p daemon.notice usb: skipped: $in/a disk is not mounted"
    runs 0 usb --plugged
    is "what is logged where nothing was plugged in" "$(cat "$box/log")" ""
    # It was first run four days ago, and was never done.
    echo "first_run $(($(date +%s) - 4 * 86400))" >"$box/state/usb.state"
    runs 69 usb
    has "$box/log" "not done for 4 days: $in/a disk is not mounted"
    is snapshots "$(snapshots)" "$before"
    mount -t tmpfs none "$disk"
    runs 0 usb
    runs 0 usb --plugged
    has "$box/log" "nothing to do: it was done less than 12 hours ago"
    is snapshots "$(snapshots)" $((before + 1))
    sed -i "s/^last_success .*/last_success $(($(date +%s) - 13 * 3600))/" "$box/state/usb.state"
    runs 0 usb --plugged
    is snapshots "$(snapshots)" $((before + 2))
    umount "$disk"
}

test_overlap() {
    about="$where: two at a time"
    # The first holds the lock until somebody says that it may end.
    cat >"$box/notify" <<NOTIFY
#!/bin/sh
echo "\$1 \$2 \$3" >$in/told
until [ -e $in/go ]; do sleep 1; done
NOTIFY
    chmod 755 "$box/notify"
    rm -f "$box/told" "$box/go"
    write_job first "notify $in/notify"
    write_job second
    write_job patient "lock_wait 30"
    exec_job first >/dev/null 2>&1 &
    local first=$! waited=0
    until [[ -s $box/told ]]; do
        sleep 0.1
        ((waited++ < 600)) || flunk "the first does not come to its end"
    done
    has "$box/told" "first 0 done (status 0"
    runs 75 second
    has "$box/log" "another job is running"
    (sleep 2 && touch "$box/go") &
    runs 0 patient
    wait "$first" || flunk "the first fails"
    runs 0 second
    about="$where: a job that was killed"
    rm -f "$box/told" "$box/go"
    exec_job first >/dev/null 2>&1 &
    first=$!
    until [[ -s $box/told ]]; do sleep 0.1; done
    kill -9 "$first"
    wait "$first" 2>/dev/null || true
    runs 0 second
    touch "$box/go"
    # It could not tidy up.
    rm -r "$tmp"/tiroir-job.*
}

test_unreadable() {
    about="$where: a file that cannot be read"
    mkdir -p "$box/partly"
    echo a >"$box/partly/readable"
    echo b >"$box/partly/secret"
    chmod 0 "$box/partly/secret"
    write_job partly
    sed -i "s|^source .*|source $in/partly|" "$box/jobs/partly.conf"
    caps=(setpriv "--bounding-set=-dac_override,-dac_read_search")
    runs 3 partly
    has "$box/log" "-p daemon.warning partly: done, but some files could not be read (status 3"
    has "$box/log" "secret"
    has "$box/state/partly.state" "last_status 3"
    has_not "$box/state/partly.state" "last_success 0"
    about="$where: the capability that the unit of systemd leaves"
    local kept
    kept=$(sed -n 's/^CapabilityBoundingSet=CAP_//p' packaging/systemd/tiroir-backup@.service)
    caps=(setpriv "--bounding-set=-all,+sys_chroot,+${kept,,}" --no-new-privs)
    runs 0 partly
    caps=()
    has_not "$box/log" "secret"
}

test_full_disk() {
    about="$where: a full disk"
    mount -t tmpfs -o size=1m none "$box/disk"
    tiroir at "$in/disk/store" create -plaintext 2>/dev/null || flunk "no store"
    mkdir -p "$box/large"
    head -c 4000000 /dev/urandom >"$box/large/noise"
    write_job full
    sed -i -e "s|^source .*|source $in/large|; s|^store .*|store $in/disk/store|; /^keyfile/d" \
        "$box/jobs/full.conf"
    runs 1 full
    has "$box/log" "No space left on device"
    has "$box/log" "-p daemon.err full: not done: tiroir failed (status 1"
    has "$box/state/full.state" "last_success 0"
    umount "$box/disk"
}

test_damage() {
    about="$where: a damaged store"
    cp -a "$box/store" "$box/damaged"
    write_job checked "check_days 7" "check_what all"
    # A copy has the identity of the store, and needs a cache of its own.
    sed -i "s|^store .*|store $in/damaged|; s|^cache .*|cache $in/cache2|" "$box/jobs/checked.conf"
    runs 0 checked
    has "$box/log" "checked: done, and checked (status 0"
    has_not "$box/state/checked.state" "last_check 0"
    runs 0 checked
    has_not "$box/log" "and checked"
    # Bytes in the middle of the largest packfile.
    local file
    file=$(find "$box/damaged/packfiles" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
    printf 'XXXXXXXX' | dd of="$file" bs=1 seek=100 conv=notrunc 2>/dev/null
    sed -i "s/^last_check .*/last_check 1/" "$box/state/checked.state"
    runs 65 checked
    has "$box/log" "but the check ended with status 65: the store is damaged"
    has "$box/state/checked.state" "last_status 65"
    has "$box/state/checked.state" "last_check 1"
}

test_interrupted() {
    about="$where: interrupted"
    mkdir -p "$box/endless"
    truncate -s 64G "$box/endless/sparse"
    write_job long
    sed -i "s|^source .*|source $in/endless|" "$box/jobs/long.conf"
    : >"$box/log"
    exec_job long >/dev/null 2>"$box/said" &
    local runner=$! status=0
    # From when its pipe is there it hears signals.
    until [[ -n $(find "$tmp" -name said -type p) ]]; do sleep 0.1; done
    sleep 1
    kill -TERM "$runner"
    wait "$runner" || status=$?
    is status "$status" 130
    has "$box/log" "-p daemon.err long: not done: interrupted (status 130"
    rm "$box/endless/sparse"
    # The lock is gone, and nothing is left behind.
    runs 0 home
    is "what is left in /tmp" "$(find "$tmp" -name 'tiroir-job.*' | wc -l)" 0
}

# stub LINE...: a program in place of tiroir.
stub() {
    { echo '#!/bin/sh'; echo '[ "$1" != version ] || exit 0'; printf '%s\n' "$@"; } >"$box/stub"
    chmod 755 "$box/stub"
}

test_stubs() {
    about="$where: much to say"
    stub 'i=0; while [ $i -lt 500 ]; do i=$((i + 1)); echo "line $i"; done; exit 0'
    write_job stub "program $in/stub" "log_lines 10"
    runs 0 stub
    has "$box/log" "490 more lines"
    is "lines" "$(grep -c 'line [0-9]' "$box/log")" 10
    about="$where: killed"
    stub 'kill -9 $$'
    runs 1 stub
    has "$box/log" "was killed by signal 9"
    about="$where: priority"
    stub 'read -r line <"/proc/$$/stat"; set -- ${line##*) }; echo "nice is ${17}"'
    runs 0 stub
    has "$box/log" "nice is 19"
    about="$where: a log in a file"
    write_job stub "program $in/stub"
    sed -i "s|^log .*|log $in/job.log|" "$box/jobs/stub.conf"
    head -c 300000 /dev/zero >"$box/job.log"
    runs 0 stub
    is "the old log" "$(stat -c %s "$box/job.log.1")" 300000
    has "$box/job.log" "notice stub: done (status 0"
    about="$where: a wrong clock"
    stub 'exit 0'
    write_job stub "program $in/stub" "clock_wait 1"
    touch -d '+1 day' "$box/stub"
    runs 1 stub
    has "$box/log" "the clock is wrong"
    touch "$box/stub"
    echo "last_run $(($(date +%s) + 1000))" >"$box/state/stub.state"
    runs 1 stub
    has "$box/log" "the clock is wrong"
    rm "$box/state/stub.state"
    about="$where: a disk that programs are not run from"
    mount -t tmpfs -o noexec none "$box/disk"
    cp "$box/stub" "$box/disk/stub"
    write_job stub "program $in/disk/stub"
    runs 1 stub
    has "$box/log" "is its disk mounted noexec?"
    umount "$box/disk"
}

test_places() {
    about="$where: where cache and spool lie"
    write_job place
    sed -i "s/^any_place .*/any_place no/" "$box/jobs/place.conf"
    printf '%s\n' "none / ext4 rw 0 0" "none $in/cache jffs2 rw 0 0" >"$box/mounts"
    mounts=$in/mounts
    runs 64 place
    has "$box/log" "the cache, $in/cache, would wear out flash memory (jffs2)"
    printf '%s\n' "none / overlay rw 0 0" >"$box/mounts"
    runs 64 place
    has "$box/log" "flash memory (overlay)"
    printf '%s\n' "none / ext4 rw 0 0" "none $in/spool tmpfs rw 0 0" >"$box/mounts"
    runs 64 place
    has "$box/log" "the spool, $in/spool, is in memory"
    printf '%s\n' "none / ext4 rw 0 0" "none $in/cache tmpfs rw 0 0" >"$box/mounts"
    runs 0 place
    has "$box/log" "the cache, $in/cache, is in memory"
    # What was mounted last lies on top.
    printf '%s\n' "none / tmpfs rw 0 0" "none / ext4 rw 0 0" >"$box/mounts"
    runs 0 place
    has_not "$box/log" "is in memory"
    mounts=/proc/mounts
}

test_job() {
    caps=()
    mounts=/proc/mounts
    prepare_box
    test_success
    test_spellings
    test_secrets
    test_mounts
    test_overlap
    test_unreadable
    test_full_disk
    test_damage
    test_interrupted
    test_stubs
    test_places
}
