#!/bin/sh
# For the key notify of a job: how a run ended comes into the system log of QTS,
# from where Notification Center sends it on. Called with NAME STATUS TEXT.
case $2 in
0) type=0 ;; # information
3) type=1 ;; # warning
*) type=2 ;; # error
esac
/sbin/log_tool -t "$type" -a "tiroir: $1: $3"
