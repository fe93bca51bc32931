#!/bin/sh
# rotate_key.sh make COMMENT: create the gateway's next SSH key beside the current one, if there is none yet.
# rotate_key.sh switch: put the next key in the place of the current one.
#
# It may be interrupted anywhere. A private key is moved as a whole, and decides: its public key is derived from it
# again. Prints "changed" if it changed something.
set -eu
umask 077
folder=/etc/sluice/ssh
current=$folder/id_ed25519
next=$folder/id_ed25519.next

publish() {
    ssh-keygen -y -f "$1" >"$1.pub.new"
    chmod 0644 "$1.pub.new"
    mv -f "$1.pub.new" "$1.pub"
}

rm -rf "$folder"/.next.*
case $1 in
    make)
        publish "$current"
        if [ ! -e "$next" ]; then
            made=$(mktemp -d "$folder/.next.XXXXXX")
            ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$made/key"
            chown sluice-proxy:sluice-proxy "$made/key"
            chmod 0400 "$made/key"
            mv "$made/key" "$next"
            rm -rf "$made"
            echo changed
        fi
        publish "$next"
        ;;
    switch)
        if [ -e "$next" ]; then
            mv -f "$next" "$current"
            echo changed
        fi
        publish "$current"
        rm -f "$next.pub"
        ;;
esac
