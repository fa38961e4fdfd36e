#!/bin/sh
# Every relative link in README.md and Docs/ leads to a file that is there; attacks, rules and what cites them agree; each block is of a kind (those
# of commands are run by the tests).
set -eu
cd "$(dirname "$0")/.."
status=0
for page in *.md Docs/*.md Docs/*/*.md; do
    for target in $(grep -o '](\([^)#]*\)' "$page" | sed 's/^](//' | grep -v '^[a-z]*:' || true); do
        if [ ! -e "$(dirname "$page")/$target" ]; then
            echo "$page: $target: no such file"
            status=1
        fi
    done
done
[ "$status" -eq 0 ] && echo "docs: every link leads somewhere"
python3 tools/checks/catalogues.py || status=1
python3 tools/checks/catalogues_trial.py || status=1
python3 tools/checks/pages.py || status=1
python3 tools/checks/pages_trial.py || status=1
exit "$status"
