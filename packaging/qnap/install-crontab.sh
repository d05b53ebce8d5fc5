#!/bin/sh
# Puts a job into the crontab of QTS, which is /etc/config/crontab: that one stays
# when the NAS is started anew, and what `crontab -e` writes does not.
#     sh install-crontab.sh NAME "30 3 * * *"
#     sh install-crontab.sh NAME off
# CRONTAB_FILE is for trying it elsewhere.
set -u
crontab_file=${CRONTAB_FILE:-/etc/config/crontab}
here=$(cd -P -- "$(dirname -- "$0")" && pwd)
case ${1-} in
'' | *[!A-Za-z0-9_-]*)
    echo "say which job: $0 NAME SCHEDULE" >&2
    exit 64
    ;;
esac
case ${2-} in
off) line= ;;
'' | *[!0-9*/,\ -]*)
    echo "say when, as in a crontab, or off: $0 $1 '30 3 * * *'" >&2
    exit 64
    ;;
*) line="$2 $here/tiroir-job $here/$1.conf" ;;
esac
[ -f "$crontab_file" ] || {
    echo "there is no $crontab_file: is this QTS?" >&2
    exit 1
}
new=$crontab_file.new
{
    grep -vF "$here/tiroir-job $here/$1.conf" "$crontab_file"
    [ -z "$line" ] || printf '%s\n' "$line"
} >"$new" && cat "$new" >"$crontab_file" && rm -f "$new" && crontab "$crontab_file"
