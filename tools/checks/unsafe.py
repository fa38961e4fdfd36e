#!/usr/bin/env python3
"""Holds unsafe code to the few modules that are for it.

tools/checks/unsafe.py [FOLDER]: looks at FOLDER/Sources (FOLDER: this checkout) and says, one line each,
  - an `unsafe` (also `@unsafe`, `nonisolated(unsafe)`) in a module that is not in ROOMS below;
  - a module of ROOMS that has none, or is none.
The compiler does the rest: strict memory safety is an error in every target (Package.swift), so what is unsafe and not spelt so does not build.
"""
import pathlib
import re
import sys

import imports

# At most ten. Whoever needs another shows that its unsafe words cannot be safe functions of one of these.
MOST = 10
ROOMS = {
    "LinuxSystem": "system calls take addresses; their safe functions are here",
    "SharedMemory": "pages that a peer can write are reached through addresses, and what is copied is checked here",
    "Reactor": "io_uring's rings are memory shared with the kernel",
    "LibNBD": "libnbd's handle, buffers and callbacks are pointers",
    "LibRBD": "librbd's handles, vectors and buffers are pointers, and SharedMemory knows no cluster",
    "FrameMaps": "a radix tree of atomics that readers walk without a lock",
    "DMA": "bus addresses become addresses, a few nanoseconds each; the tables that do it belong to one thread",
    "Libxen": "Xen's libraries hand out handles and mapped pages as pointers",
    "TranslationLibrary": "a C library's functions are called with pointers",
    "LibxenCompat": "the functions of Xen's libraries are called with pointers, and lay pages out in their callers' address space",
}
WORD = re.compile(r"\bunsafe\b")


def uses(module: pathlib.Path, root: pathlib.Path) -> list[str]:
    """Where a module has the word, outside of comments."""
    places = []
    for file in sorted(module.rglob("*.swift")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if WORD.search(line.split("//")[0]):
                places.append(f"{file.relative_to(root)}:{number}")
    return places


def faults(root: pathlib.Path) -> tuple[list[str], int]:
    wing_of, _, _ = imports.modules(root / "Sources")
    found = [] if len(ROOMS) <= MOST else [f"unsafe: {len(ROOMS)} modules may have unsafe code; {MOST} is the most"]
    for name, wing in sorted(wing_of.items()):
        folder = root / "Sources" / wing / name
        places = uses(folder, root) if folder.is_dir() else []
        if places and name not in ROOMS:
            more = f", and {len(places) - 1} more" if len(places) > 1 else ""
            found.append(f"{places[0]}: {name} has unsafe code{more}; it belongs in {', '.join(ROOMS)}")
        if name in ROOMS and not places:
            found.append(f"unsafe: {name} has none any more: take it off the list")
    found += [f"unsafe: there is no module {name}" for name in sorted(ROOMS.keys() - wing_of.keys())]
    return found, len(wing_of)


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    found, count = faults(root)
    if count == 0:
        print(f"unsafe: {root}: no modules found", file=sys.stderr)
        return 2
    for fault in found:
        print(fault)
    if not found:
        print(f"unsafe: {len(ROOMS)} modules of {count} have unsafe code")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
