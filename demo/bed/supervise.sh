#!/bin/sh
# Runs one host: mounts its root in a mount namespace of this process alone (so that the mount ends with it),
# then starts it, and starts it again for as long as it asks for a reboot.
# Usage: supervise.sh SUPERVISOR-GROUPS HOST-GROUPS OVERLAY-OPTIONS ROOT NSPAWN-COMMAND...
# GROUPS are control groups' cgroup.procs files, separated by colons.
set -eu

supervisor_groups=$1 host_groups=$2 overlay_options=$3 root=$4
shift 4

# With --keep-unit, systemd-nspawn leaves a reboot to its caller and says so by this status.
reboot_status=133

# What enters the groups given first becomes the command that follows.
# shellcheck disable=SC2016  # expanded by the inner shell
enter='IFS=:; for group in $0; do echo $$ >"$group"; done; unset IFS; exec "$@"'

run_host() {
    sh -c "$enter" "$host_groups" "$@" </dev/null
}

IFS=:
for group in $supervisor_groups; do
    echo $$ >"$group"
done
unset IFS

mount -t overlay overlay -o "$overlay_options" "$root"

while :; do
    status=0
    run_host "$@" || status=$?
    [ "$status" -eq "$reboot_status" ] || exit "$status"
done
