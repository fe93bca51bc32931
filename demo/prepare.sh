#!/usr/bin/env bash
# Prepares what the project's own Python needs.
#
#   demo/prepare.sh preflight […]  checks whether this machine can run a bed; changes nothing, ends within seconds
#   demo/prepare.sh venv DIR      the Python environment, from the locked requirements
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'sluice: %s\n        %s\n' "$1" "$2" >&2
    exit 1
}

# The first Python 3.11 or newer: the machine's own before any other.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail 'there is no Python 3.11 or newer' 'install it (apt-get install python3), or name one: make PYTHON=…'
}

install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || fail "these packages are missing: ${missing[*]}" \
        "as root: apt-get install ${missing[*]}"
    printf '[prepare] installing %s\n' "${missing[*]}"
    local waiting=(-o DPkg::Lock::Timeout=120)
    apt-get update -qq
    # A package's service must not start on the machine that only needs its programs.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq "${waiting[@]}" --yes --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# Further arguments (--name, --subnet) name the bed that is to come up.
preflight() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" 'use a Linux machine (Debian 12 is what it is tested on)'
    command -v apt-get >/dev/null || fail 'there is no apt-get here' 'use a Debian or Ubuntu machine'
    # The bed's own checks (root, disk, memory, network, kernel) need no more than the standard library.
    "$(find_python)" -m demo.bed preflight "$@"
}

venv() {
    local target=$1 python
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        # What the checks and tests run; the bed installs its own needs.
        install_packages python3 python3-venv git openssl openssh-client openssh-server bubblewrap \
            prometheus chromium
    fi
    python=$(find_python)
    printf '[prepare] making the Python environment\n'
    "$python" -m venv --clear "$target"
    "$target/bin/pip" install --quiet --require-hashes --no-compile -r requirements-dev.txt 2>&1 |
        { grep -v '^WARNING' || true; }
    touch "$target/.complete"
}

case "${1:-}" in
    preflight) shift && preflight "$@" ;;
    venv) venv "${2:?a directory}" ;;
    *) fail 'what shall be prepared?' 'demo/prepare.sh preflight | venv DIR' ;;
esac
