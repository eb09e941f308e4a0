#!/usr/bin/env bash
# The tests with the lowest and with the highest versions that the requirements admit:
#   tests/versions.sh low python3.9
#   tests/versions.sh high python3.13
set -eu
which=$1 python=$2
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat requirements{,-paddle,-export,-dev}.txt | grep -v -e '^-r' -e '^#' >"$folder/wanted.txt"
if [ "$which" = low ]; then
    sed -i 's/>=\([^,]*\),.*/==\1/' "$folder/wanted.txt"
fi
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -r "$folder/wanted.txt"
"$folder/venv/bin/python" --version
"$folder/venv/bin/pip" freeze
"$folder/venv/bin/python" -m pytest
