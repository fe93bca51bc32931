#!/bin/sh
# Managed by Ansible
# What sshd runs for the gateway's key, whatever was asked for (SSH_ORIGINAL_COMMAND is never read).
# Root owns this file, the program and its configuration; the relay's account owns none of them.
set -eu
umask 077
# No prompt may lie in a core dump. POSIX does not name -c; dash, bash, ksh and busybox all know it.
# shellcheck disable=SC3045
ulimit -c 0
cd /
# Nothing of the environment passes but where the session comes from, as sshd says it.
exec /usr/bin/env -i PATH=/usr/bin:/bin LANG=C.UTF-8 SSH_CONNECTION="${SSH_CONNECTION:-}" \
  /usr/bin/python3 -I -S /opt/sluice/sluice.pyz \
  relay --config /etc/sluice/relay.json 2>/dev/null
