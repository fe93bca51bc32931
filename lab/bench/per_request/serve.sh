#!/bin/bash
# The forced command of the design that starts processes for each request: what was asked for is matched against a closed
# list, the model's engine is looked up, and curl carries body and answer. No interpreter but bash is started.
set -eu
[[ ${SSH_ORIGINAL_COMMAND:-} =~ ^(/v1/chat/completions|/v1/completions)\ ([a-z0-9-]{1,64})$ ]] || exit 2
path=${BASH_REMATCH[1]} model=${BASH_REMATCH[2]}
while read -r name socket; do
    [[ $name == "$model" ]] && break
done </run/sluice-test/etc/routes
[[ ${name:-} == "$model" ]] || exit 3
exec /usr/bin/curl --silent --no-buffer --include --raw --unix-socket "$socket" \
    --header 'Content-Type: application/json' --data-binary @- "http://engine$path"
