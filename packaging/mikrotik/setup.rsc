# For RouterOS 7.4 and later with the container package, after
#     /system/device-mode/update container=yes
# and a press of the button. Put your own addresses, disk and names, then paste
# it, or /import it. The image is tiroir-VERSION-image-PLATFORM.tar, on the
# disk.
/interface/veth/add name=veth-tiroir address=172.17.0.2/24 gateway=172.17.0.1
/interface/bridge/add name=containers
/ip/address/add address=172.17.0.1/24 interface=containers
/interface/bridge/port/add bridge=containers interface=veth-tiroir
/ip/firewall/nat/add chain=srcnat action=masquerade src-address=172.17.0.0/24
/container/config/set tmpdir=usb1/pull ram-high=96M
# What is backed up; and a folder for the passphrase, the cache and the spool.
/container/mounts/add name=tiroir-data src=/usb1/data dst=/data
/container/mounts/add name=tiroir-work src=/usb1/tiroir dst=/state
/container/add file=usb1/tiroir.tar interface=veth-tiroir root-dir=usb1/tiroir-root \
    mounts=tiroir-data,tiroir-work logging=yes start-on-boot=no \
    cmd="-quiet -keyfile /state/passphrase --memory 24M --cache-dir /state/cache --spool /state/spool at sftp://backup@nas.lan/srv/store backup /data"
/system/scheduler/add name=tiroir start-time=03:30:00 interval=1d \
    on-event="/container/start [find where root-dir~\"tiroir-root\"]"
