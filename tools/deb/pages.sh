#!/bin/sh
# A page of section 8 for each verb, by swift-argument-parser's own tool, and the pages of Docs: tools/deb/pages.sh PROGRAM SHARE
set -eu
cd "$(dirname "$0")/../.."
program=$1 share=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
swift=${SWIFT:-swift}
"$swift" build --quiet --package-path .build/checkouts/swift-argument-parser --scratch-path .build/manual -c release --product generate-manual >&2
date=$(TZ=UTC date -d "@$(git log -1 --format=%ct)" +%F)
.build/manual/release/generate-manual "$program" --multi-page --section 8 --date "$date" --output-directory "$work" >&2
mkdir -p "$share/man/man8" "$share/doc/causeway-doc"
for page in "$work"/causeway.*.8; do
    name=$(basename "$page" .8 | tr . -)
    # What is for this command's own processes is no verb of anybody's; `help` has no page to itself.
    case $name in causeway-help | causeway-bench-* | causeway-vif-keeper) continue ;; esac
    sed -e "0,/^\\.Nm .*/s//.Nm $name/" -e "s/^\\.Dt .*/.Dt $(echo "$name" | tr '[:lower:]' '[:upper:]') 8/" -e '/^$/d' "$page" >"$share/man/man8/$name.8"
done
cp -r README.md SECURITY.md Docs "$share/doc/causeway-doc/"
# Debian takes a file of the other name for its own changelog.
cp CHANGELOG.md "$share/doc/causeway-doc/CHANGES.md"
sed -i 's|(CHANGELOG.md)|(CHANGES.md)|' "$share/doc/causeway-doc/README.md"
