#!/usr/bin/env python3
"""Whether imports.py finds what it is for: a small house with each mistake in it, one at a time, and one without."""
import pathlib
import sys

from trial import complaints, report

CHECK = pathlib.Path(__file__).with_name("imports.py")
HOUSE = {
    "Host/LinuxSystem/A.swift": "import Glibc\n",
    "Host/C/CLinux/shim.h": "",
    "Translation/DMA/A.swift": "import LinuxSystem\n",
    "Xen/SharedRing/A.swift": "import LinuxSystem\n",
    "Xen/XenBus/A.swift": "/// A disk is a `vbd`.\npublic import LinuxSystem\n",
    "Hypervisors/Hypervisor/A.swift": "import XenBus\n",
    "Devices/BlockDevices/A.swift": "import DMA\n",
    "Devices/Packets/A.swift": "import DMA\n",
    "Drivers/Block/BlockProtocol/A.swift": "import SharedRing\n",
    "Drivers/Block/BlockModel/A.swift": "import BlockDevices\n",
    "Drivers/Network/NetworkProtocol/A.swift": "import SharedRing\n",
    "Command/causeway/A.swift": "import BlockModel\n",
}
# What is wrong, the file it is written into, and a word of the complaint.
MISTAKES = [
    ("an arrow up", "Translation/DMA/A.swift", "import Hypervisor\n", "a wing above"),
    ("an arrow up, behind an attribute", "Host/LinuxSystem/A.swift", "@testable import DMA\n", "a wing above"),
    ("an arrow up, of one type", "Xen/XenBus/A.swift", "import struct BlockModel.BlockWork\n", "a wing above"),
    ("a device that knows a ring", "Devices/BlockDevices/A.swift", "import SharedRing\n", "may know no wire"),
    ("packets that know a hypervisor", "Devices/Packets/A.swift", "import Hypervisor\n", "may know no wire"),
    ("a model that knows a wire", "Drivers/Block/BlockModel/A.swift", "internal import BlockProtocol\n", "may know no wire"),
    ("a class that knows another", "Drivers/Block/BlockProtocol/A.swift", "import NetworkProtocol\n", "stands beside"),
    ("a bus that knows a class", "Xen/XenBus/A.swift", 'let name = "vbd"\n', "knows a class of device"),
    ("a ring that knows a class", "Xen/SharedRing/A.swift", "struct DiskRing {}\n", "knows a class of device"),
    ("a folder that is no wing", "Attic/Old/A.swift", "", "no wing"),
    ("two modules of one name", "Devices/DMA/A.swift", "", "is in Translation, too"),
]


def main() -> int:
    failures = []
    status, text = complaints(CHECK, HOUSE)
    if status != 0:
        failures.append(f"a sound house is refused: {text}")
    for what, file, line, word in MISTAKES:
        status, text = complaints(CHECK, {**HOUSE, file: HOUSE.get(file, "") + line})
        if status != 1 or word not in text:
            failures.append(f"not found: {what} (status {status}): {text}")
    return report(failures, f"imports_trial: each of {len(MISTAKES)} mistakes is found")


if __name__ == "__main__":
    sys.exit(main())
