#!/bin/sh
# The DocC pages of the product XenTranslation: tools/docc.sh [FOLDER], one archive a module below FOLDER (default .build/docc). A page that names a
# symbol which is not there is an error.
set -eu
cd "$(dirname "$0")/.."
out=${1:-.build/docc}
graphs=.build/symbol-graphs
# A build of its own, from nothing: the compiler writes a symbol graph only where it compiles.
rm -rf "$graphs" "$out" .build/docc-build
mkdir -p "$graphs" "$out"
for target in HostIommu FrameMapReaders; do
    swift build --scratch-path .build/docc-build --target $target -Xswiftc -emit-symbol-graph -Xswiftc -emit-symbol-graph-dir \
        -Xswiftc "$PWD/$graphs" -Xswiftc -symbol-graph-minimum-access-level -Xswiftc public -Xswiftc -symbol-graph-skip-synthesized-members
done
for module in FrameMaps DMA FrameMapReaders HostIommu; do
    own=$graphs/only-$module
    mkdir -p "$own"
    cp "$graphs/$module.symbols.json" "$graphs/$module@"*.symbols.json "$own/" 2>/dev/null || cp "$graphs/$module.symbols.json" "$own/"
    docc convert "Sources/Translation/$module/$module.docc" --fallback-display-name "$module" --fallback-bundle-identifier "causeway.$module" \
        --additional-symbol-graph-dir "$own" --output-path "$out/$module.doccarchive" --warnings-as-errors
    echo "docc: $out/$module.doccarchive"
done
