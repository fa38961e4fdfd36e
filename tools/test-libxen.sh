#!/bin/sh
# The whole block and network suites once more, every domain of theirs through Xen's libraries on the loopback host: what
# `backend --xen` and `frontend --xen` are made of; but for the memory models, which lie above a hypervisor, and two long
# races for words of a page. The tests must have been built. tools/test-libxen.sh [FILTER] [the testing library's options]
set -eu
filter='BlockBackendTests|NetworkBackendTests'
case ${1:--} in
-*) ;;
*)
    filter=$1
    shift
    ;;
esac
directory=$(${SWIFT:-swift} build --show-bin-path)
sh "$(dirname "$0")/libxen-names.sh" ../libcauseway-libxen.so "$directory/libxen"
# Not by `swift test`, which starts them with an LD_LIBRARY_PATH of its own.
LD_LIBRARY_PATH="$directory/libxen${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" CAUSEWAY_TEST_HYPERVISOR=libxen \
    exec "$directory/causewayPackageTests.xctest" --testing-library swift-testing --no-parallel \
    --filter "$filter" --skip 'MemoryModelTests|NetworkMemoryTests|C16_frames|B19_statistics' "$@"
