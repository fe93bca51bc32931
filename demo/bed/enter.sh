#!/bin/sh
# Enters control groups, then becomes a command.
# Usage: enter.sh CGROUP-PROCS-FILES COMMAND...
# CGROUP-PROCS-FILES is a list separated by colons.
set -eu

groups=$1
shift

IFS=:
for group in $groups; do
    echo $$ >"$group"
done
unset IFS

exec "$@"
