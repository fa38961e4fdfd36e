#!/bin/sh
# Debian packages of what is built already: tools/deb/build.sh VERSION. They land in .build/deb.
set -eu
cd "$(dirname "$0")/../.."
version=$1
root=$PWD
for program in dh_install lintian; do
    command -v $program >/dev/null || { echo "deb: there is no $program; apt-get install debhelper lintian" >&2; exit 1; }
done
rm -rf .build/deb
tree=.build/deb/causeway-$version
mkdir -p "$tree"
cp -r Packaging/debian "$tree/"
# The newest commit's time, so that the same sources make the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
cat >"$tree/debian/changelog" <<CHANGES
causeway ($version) unstable; urgency=medium

  * See /usr/share/doc/causeway-doc/CHANGES.md.

 -- Causeway maintainers <maintainers@users.noreply.h-seed-31200aa4.example>  $(date -Rud "@$SOURCE_DATE_EPOCH")
CHANGES
# Swift's and the libraries' headers come by `make setup`, not by the packages that dpkg would ask for.
(cd "$tree" && CAUSEWAY=$root dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >../build.log 2>&1) ||
    { tail -30 .build/deb/build.log >&2; exit 1; }
rm -rf "$tree"
lintian --fail-on error --suppress-tags initial-upload-closes-no-bugs .build/deb/*.changes || { echo "deb: lintian has found errors" >&2; exit 1; }
ls -l .build/deb/*.deb
