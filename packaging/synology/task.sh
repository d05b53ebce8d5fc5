#!/bin/sh
# For Control Panel, Task Scheduler, Create, Scheduled Task, User-defined script:
# user root, and "Send run details only when the script terminates abnormally".
#     sh /volume1/tiroir/task.sh NAME
# What the last line tells is in the mail. Beeps are those of the board: once for
# done, three times for what failed.
here=$(cd -P -- "$(dirname -- "$0")" && pwd)
"$here/tiroir-job" "$here/$1.conf"
status=$?
beep() {
    # The chip that beeps listens to a serial line; some models have none.
    [ ! -c /dev/ttyS1 ] || printf '%s' "$1" >/dev/ttyS1
}
case $status in
0 | 3) beep 2 ;;
*)
    beep 3
    ;;
esac
exit "$status"
