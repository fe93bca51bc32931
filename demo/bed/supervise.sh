#!/bin/sh
# Supervises one host. Started in a mount namespace of its own, it mounts the host's root there, so that the mount
# ends with it; then it starts the host, and starts it again for as long as the host asks for a reboot.
# Usage: supervise.sh OVERLAY-OPTIONS ROOT COMMAND...
set -eu

overlay_options=$1 root=$2
shift 2

# With --keep-unit, systemd-nspawn leaves a reboot to its caller and says so by this status.
reboot_status=133

mount -t overlay overlay -o "$overlay_options" "$root"

while :; do
    status=0
    "$@" </dev/null || status=$?
    [ "$status" -eq "$reboot_status" ] || exit "$status"
done
