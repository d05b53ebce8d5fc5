# What the package of OpenWrt does, in a root of nothing but busybox into which it
# was unpacked: the init script, and jobs that it makes of UCI.
# shellcheck shell=bash disable=SC2154

openwrt_init() {
    chroot "$root" /bin/sh /etc/rc.common /etc/init.d/tiroir "$@"
}

write_uci() {
    cat >"$root/etc/config/tiroir" <<UCI
config job 'home'
	option enabled '1'
	option schedule '30 3 * * *'
	option on_plug '1'
	option store '/box/store'
	list mounted '/box/disk'
	option keyfile '/box/passphrase'
	list source '/box/source'
	list source '/box/source/with a blank'
	list ignore '*.tmp'
	option cache '/box/cache'
	option spool '/box/spool'
	option one_file_system '1'
	option xattr '0'
	option log 'syslog'
	option any_place '1'
	option memory '24M'

config job 'off'
	option schedule '0 0 * * *'
	option store '/box/store'
	list source '/box/source'

config job 'bad'
	option enabled '1'
	option schedule '* * * * * reboot;'
	option store '/box/store'
	list source '/box/source'
UCI
}

test_openwrt() {
    local crontab=$root/etc/crontabs/root jobs=$root/var/run/tiroir before inode
    install -D -m 644 "$here/functions.sh" "$root/lib/functions.sh"
    install -m 755 "$here/rc.common" "$root/etc/rc.common"
    printf '#!/bin/sh\necho "cron $1" >>/box/cron\n' >"$root/etc/init.d/cron"
    chmod 755 "$root/etc/init.d/cron"
    mkdir -p "${crontab%/*}"
    echo '0 4 * * * reboot' >"$crontab"
    : >"$box/log"

    about="openwrt: the configuration that comes along"
    openwrt_init start
    is "the crontab" "$(cat "$crontab")" '0 4 * * * reboot'
    [[ ! -e $box/cron ]] || flunk "cron was started anew"

    about="openwrt: UCI"
    write_uci
    openwrt_init start
    is "the job" "$(sort "$jobs/home.conf" | tr '\n' ';')" "any_place yes;cache /box/cache;ignore *.tmp;\
keyfile /box/passphrase;log syslog;memory 24M;mounted /box/disk;one_file_system yes;\
source /box/source;source /box/source/with a blank;spool /box/spool;state /etc/tiroir/state;\
store /box/store;xattr no;"
    is "its mode" "$(stat -c %a "$jobs/home.conf")" 600
    [[ ! -e $jobs/off.conf ]] || flunk "a job that is off"
    is "the crontab" "$(cat "$crontab")" "0 4 * * * reboot
30 3 * * * /usr/bin/tiroir-job /var/run/tiroir/home.conf # by /etc/init.d/tiroir"
    has "$box/log" "bad: schedule is not understood"
    is "cron" "$(cat "$box/cron")" "cron restart"
    inode=$(stat -c '%i %y' "$crontab")
    openwrt_init reload
    is "the crontab, untouched" "$(stat -c '%i %y' "$crontab")" "$inode"
    is "cron" "$(cat "$box/cron")" "cron restart"
    is "triggers" "$(openwrt_init triggers)" "reload on tiroir"

    about="openwrt: a run by hand"
    before=$(snapshots)
    local status=0
    : >"$box/log"
    openwrt_init run home >"$box/said" 2>&1 || status=$?
    is status "$status" 69
    status=0
    openwrt_init run off >"$box/said" 2>&1 || status=$?
    is status "$status" 64
    mount -t tmpfs none "$box/disk"
    openwrt_init run home >"$box/said" 2>&1 || flunk "run" "$box/log"
    has "$box/log" "home: done (status 0"
    is snapshots "$(snapshots)" $((before + 1))
    there "$root/etc/tiroir/state/home.state"

    about="openwrt: the line of the crontab, as cron runs it"
    chroot "$root" /bin/sh -c "$(sed -n 's/^30 3 \* \* \* //p' "$crontab")" || flunk "the line" "$box/log"
    is snapshots "$(snapshots)" $((before + 2))

    about="openwrt: a disk is plugged in"
    ln -s ../init.d/tiroir "$root/etc/rc.d/S95tiroir" 2>/dev/null || {
        mkdir -p "$root/etc/rc.d"
        ln -s ../init.d/tiroir "$root/etc/rc.d/S95tiroir"
    }
    sed -i "s/^last_success .*/last_success 1/" "$root/etc/tiroir/state/home.state"
    : >"$box/log"
    local began=$SECONDS waited=0
    # rc.common is what the kernel would start for an init script.
    sed -i '1s|.*|#!/etc/rc.common|' "$root/etc/init.d/tiroir"
    printf '#!/bin/sh\nexec /bin/sh /etc/rc.common /etc/init.d/tiroir.real "$@"\n' >"$box/init"
    mv "$root/etc/init.d/tiroir" "$root/etc/init.d/tiroir.real"
    install -m 755 "$box/init" "$root/etc/init.d/tiroir"
    chroot "$root" /bin/env ACTION=add DEVNAME=sda1 /bin/sh /etc/hotplug.d/block/90-tiroir || flunk hotplug
    ((SECONDS - began < 10)) || flunk "the hotplug script waits"
    until grep -q "home: done" "$box/log"; do
        sleep 0.1
        ((waited++ < 600)) || flunk "nothing was run" "$box/log"
    done
    is snapshots "$(snapshots)" $((before + 3))
    chroot "$root" /bin/env ACTION=remove DEVNAME=sda1 /bin/sh /etc/hotplug.d/block/90-tiroir || flunk hotplug
    umount "$box/disk"

    about="openwrt: stopped"
    mv "$root/etc/init.d/tiroir.real" "$root/etc/init.d/tiroir"
    openwrt_init stop
    is "the crontab" "$(cat "$crontab")" '0 4 * * * reboot'
    is "jobs" "$(find "$jobs" -name '*.conf')" ""
}
