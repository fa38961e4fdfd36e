#!/bin/sh
# Every relative link in README.md and Docs/ leads to a file that is there.
set -eu
cd "$(dirname "$0")/.."
status=0
for page in README.md Docs/*.md; do
    for target in $(grep -o '](\([^)#]*\)' "$page" | sed 's/^](//' | grep -v '^[a-z]*:' || true); do
        if [ ! -e "$(dirname "$page")/$target" ]; then
            echo "$page: $target: no such file"
            status=1
        fi
    done
done
[ "$status" -eq 0 ] && echo "docs: every link leads somewhere"
exit "$status"
