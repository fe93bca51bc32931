#!/bin/sh
# install_venv.sh PYTHON ROOT WHEEL REQUIREMENTS STAMP: build ROOT/venv from ROOT/dist/WHEEL.
#
# Dependencies go into a folder whose name has the digest of their lock, and ROOT/venv is a link to it, so that a
# running service keeps its files until it is restarted. The stamp is written last: after an interruption, run it again.
set -eu
umask 022
python=$1 root=$2 wheel=$3 requirements=$4 stamp=$5
home=$root/venv-$requirements
current=$(readlink -f "$root/venv" || :)

for old in "$root"/venv-*; do
    [ "$old" = "$home" ] || [ "$old" = "$current" ] || rm -rf "$old"
done
for old in "$root"/dist/*.whl; do
    [ "$old" = "$root/dist/$wheel" ] || rm -f "$old"
done
rm -f "$home"/.installed-*

if [ ! -e "$home/.requirements" ]; then
    rm -rf "$home"
    "$python" -m venv "$home"
    "$home/bin/python" -m pip install --quiet --no-input --only-binary :all: --require-hashes \
        --requirement "$root/dist/requirements.txt"
    : >"$home/.requirements"
fi
"$home/bin/python" -m pip install --quiet --no-input --no-index --no-deps --force-reinstall "$root/dist/$wheel"

: >"$home/.installed-$stamp"
ln -sfn "$home" "$root/venv.new"
mv -T "$root/venv.new" "$root/venv"
