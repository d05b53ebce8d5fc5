#!/bin/sh
# For System, Advanced, Cron Jobs: user root, "Hide Standard Output" set, "Hide
# Standard Error" not, so that only what went wrong is mailed.
#     sh /mnt/POOL/tiroir/task.sh NAME
# It is called by sh because datasets may be mounted noexec; the program itself has
# to be on one that is not.
here=$(cd -P -- "$(dirname -- "$0")" && pwd)
exec sh "$here/tiroir-job" "$here/$1.conf"
