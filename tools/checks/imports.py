#!/usr/bin/env python3
"""Holds the sources to the layers that Docs/architecture.md draws.

tools/checks/imports.py [FOLDER]: looks at FOLDER/Sources/<Wing>/<Module> (FOLDER: this checkout) and says, one line each,
  - an import of a module in a wing above one's own, or of one's own wing in a circle;
  - an import of a wire, ring, hypervisor or connector by a module that must know none (BlockModel, *Devices, DeviceBus, Packets);
  - a device class's name in a module that all classes share (XenBus, SharedRing);
  - a module of more than one wing.
That each import is declared in Package.swift is the package manager's own check: see .ci/run.
"""
import collections
import pathlib
import re
import sys

# From the bottom up. Each stands only on those before it; Drivers' folders are wings of their own.
WINGS = [
    "Host", "Translation", "Xen", "Hypervisors", "Devices", "Drivers/Runtime", "Drivers/Virtio", "Drivers/Block", "Drivers/Network",
    "Exports", "Command",
]
# Neighbours: neither may stand on another.
APART = [{"Drivers/Block", "Drivers/Network"}]
# Know no wire, ring, hypervisor or connector: nothing of these wings, but what their own class needs below.
PURE = re.compile(r"^(BlockModel|DeviceBus|Packets|\w+Devices)$")
IMPURE_WINGS = {"Xen", "Hypervisors", "Drivers/Runtime", "Drivers/Virtio"}
IMPURE_MODULES = {"BlockProtocol", "NetworkProtocol", "VirtioWire", "VirtioRing", "VhostUser", "CXen", "CXenControl"}
# Shared by all classes of device.
CLASSLESS = {"XenBus", "SharedRing"}
CLASS_WORDS = re.compile(r"\b(?:vbd|vif|blkif|netif|BLKIF_\w+|NETIF_\w+|\w*(?:Disk|Segment|Frame|Packet|Mac)(?:[A-Z]\w*)?)\b")

IMPORT = re.compile(
    r"^\s*(?:(?:@\w+|public|package|internal|fileprivate|private)\s+)*import\s+(?:(?:struct|enum|class|func|protocol|typealias)\s+)?(\w+)",
    re.M)


def modules(sources: pathlib.Path) -> tuple[dict[str, str], dict[str, dict[str, list[str]]], list[str]]:
    """Each module's wing; each module's imports and the files they stand in; what is wrong with the folders."""
    wing_of: dict[str, str] = {}
    imports: dict[str, dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    faults: list[str] = []
    for wing in WINGS:
        folder = sources / wing
        if not folder.is_dir():
            continue
        places = [p for p in sorted(folder.iterdir()) if p.is_dir()]
        if wing == "Host":
            places = [p for p in places if p.name != "C"] + sorted((folder / "C").iterdir())
        for place in places:
            if place.name in wing_of:
                faults.append(f"{place}: the module {place.name} is in {wing_of[place.name]}, too")
            wing_of[place.name] = wing
            for file in sorted(place.rglob("*.swift")):
                for name in IMPORT.findall(file.read_text()):
                    imports[place.name][name].append(str(file.relative_to(sources.parent)))
    known = {s for wing in WINGS for s in [wing, wing.split("/")[0]]}
    for place in sorted(sources.iterdir()):
        if place.is_dir() and place.name not in known:
            faults.append(f"{place}: a folder that is no wing")
    return wing_of, imports, faults


def upward(wing_of: dict[str, str], imports: dict[str, dict[str, list[str]]]) -> list[str]:
    faults = []
    for module, names in sorted(imports.items()):
        here = wing_of[module]
        for name, files in sorted(names.items()):
            there = wing_of.get(name)
            if there is None or name == module:
                continue
            if here != there and any({here, there} <= neighbours for neighbours in APART):
                faults.append(f"{files[0]}: {module} ({here}) imports {name} of {there}, which stands beside it")
            elif WINGS.index(there) > WINGS.index(here):
                faults.append(f"{files[0]}: {module} ({here}) imports {name} of {there}, a wing above it")
    return faults


def impure(wing_of: dict[str, str], imports: dict[str, dict[str, list[str]]]) -> list[str]:
    faults = []
    for module, names in sorted(imports.items()):
        if not PURE.match(module):
            continue
        for name, files in sorted(names.items()):
            if wing_of.get(name) in IMPURE_WINGS or name in IMPURE_MODULES:
                faults.append(f"{files[0]}: {module} imports {name}; it may know no wire, ring, hypervisor or connector")
    return faults


def classes(sources: pathlib.Path, wing_of: dict[str, str]) -> list[str]:
    faults = []
    for module in sorted(CLASSLESS & wing_of.keys()):
        for file in sorted((sources / wing_of[module] / module).rglob("*.swift")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                code = line.split("//")[0]
                for word in CLASS_WORDS.findall(code):
                    faults.append(f"{file.relative_to(sources.parent)}:{number}: {module} knows a class of device: {word}")
    return faults


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    sources = root / "Sources"
    wing_of, imports, faults = modules(sources)
    if not wing_of:
        print(f"imports: {sources}: no modules found", file=sys.stderr)
        return 2
    faults += upward(wing_of, imports) + impure(wing_of, imports) + classes(sources, wing_of)
    for fault in faults:
        print(fault)
    if not faults:
        arrows = sum(1 for m, names in imports.items() for n in names if n in wing_of)
        print(f"imports: {len(wing_of)} modules, {arrows} arrows, none upward")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
