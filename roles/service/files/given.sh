#!/bin/sh
# given.sh is NOTE FILE…    whether the unit was last started or reloaded with these files
# given.sh note NOTE FILE…  note that it was started or reloaded with them
set -eu
what=$1 note=$2
shift 2
umask 077
case $what in
    is) sha256sum -- "$@" 2>/dev/null | cmp -s - "$note" ;;
    note)
        mkdir -p "$(dirname "$note")"
        sha256sum -- "$@" >"$note.new"
        mv "$note.new" "$note"
        ;;
esac
