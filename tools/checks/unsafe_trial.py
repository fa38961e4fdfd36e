#!/usr/bin/env python3
"""Whether unsafe.py finds what it is for: a house whose rooms have unsafe code and nobody else, and each mistake planted in it, one at a time."""
import pathlib
import sys

from trial import complaints, report

import unsafe

CHECK = pathlib.Path(__file__).with_name("unsafe.py")
WINGS = {
    "LinuxSystem": "Host", "SharedMemory": "Host", "Reactor": "Host", "LibNBD": "Host", "LibRBD": "Host", "FrameMaps": "Translation", "DMA": "Translation",
    "Libxen": "Hypervisors", "TranslationLibrary": "Exports", "LibxenCompat": "Exports",
}
HOUSE = {f"{WINGS[room]}/{room}/A.swift": "let first = unsafe base.pointee\n" for room in unsafe.ROOMS} | {
    "Devices/Packets/A.swift": "// unsafe words in a comment are none, and unsafelyUnwrapped is another word\nlet a = 1\n",
    "Drivers/Block/BlockModel/A.swift": "let a = 1 // unsafe\n",
    "Command/causeway/Roles/A.swift": "let a = 1\n",
}
# What is wrong, the file it is written into, what is written, and a word of the complaint.
MISTAKES = [
    ("an unsafe expression in a device", "Devices/Packets/A.swift", "let b = unsafe pointer.pointee\n", "A.swift:3: Packets has unsafe"),
    ("one in a model", "Drivers/Block/BlockModel/A.swift", "let b = unsafe read(1, place, 8)\n", "A.swift:2: BlockModel has unsafe"),
    ("one in a folder of a module", "Command/causeway/Roles/A.swift", "_ = unsafe getenv(name)\n", "causeway has unsafe"),
    ("an unsafe declaration", "Devices/Packets/A.swift", "@unsafe func f() {}\n", "Packets has unsafe"),
    ("a global that nobody guards", "Devices/Packets/A.swift", "nonisolated(unsafe) var a = 1\n", "Packets has unsafe"),
    ("a room that needs none any more", "Host/Reactor/A.swift", None, "Reactor has none any more"),
    ("a room that is gone", "Host/LibNBD/A.swift", "", "there is no module LibNBD"),
]


def planted(file: str, line: str | None) -> dict[str, str]:
    """The house with `line` at the end of `file`; None empties the file, and no line takes it away."""
    if line is None:
        return HOUSE | {file: "let a = 1\n"}
    return HOUSE | {file: HOUSE[file] + line} if line else {name: text for name, text in HOUSE.items() if name != file}


def main() -> int:
    failures = []
    status, text = complaints(CHECK, HOUSE, ("Host/C",))
    if status != 0:
        failures.append(f"a sound house is refused: {text}")
    for what, file, line, word in MISTAKES:
        status, text = complaints(CHECK, planted(file, line), ("Host/C",))
        if status != 1 or word not in text:
            failures.append(f"not found: {what} (status {status}): {text}")
    return report(failures, f"unsafe_trial: each of {len(MISTAKES)} mistakes is found")


if __name__ == "__main__":
    sys.exit(main())
