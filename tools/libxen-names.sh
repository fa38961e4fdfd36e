#!/bin/sh
# Lays out the directory that stands in for four of Xen's libraries: tools/libxen-names.sh FILE DIRECTORY. FILE is what the names lead
# to, from DIRECTORY or from the root.
set -eu
file=$1
directory=$2
mkdir -p "$directory"
for name in libxengnttab.so.1 libxenevtchn.so.1 libxenforeignmemory.so.1 libxencall.so.1; do
    ln -sf "$file" "$directory/$name"
done
