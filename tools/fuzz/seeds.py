#!/usr/bin/env python3
"""Writes the fuzzers' first inputs into the folder given: rows of the attack catalogue, as bytes."""
import os
import struct
import sys

FOLDER = sys.argv[1]


def seed(target, name, data):
    os.makedirs(f"{FOLDER}/{target}", exist_ok=True)
    with open(f"{FOLDER}/{target}/{name}", "wb") as file:
        file.write(data)


def request(abi, operation, second, upper, sector, payload, flags=0x1E, sectors=4096, limit=256, page=b"", shape=0):
    """abi 1 is x86_32, 2 x86_64; `payload` follows the sector."""
    pad = b"" if abi == 1 else b"\0" * 4
    slot = struct.pack("<BBH", operation, second, upper) + pad + struct.pack("<QQ", 7, sector & (2**64 - 1)) + payload
    slot = slot.ljust(108 if abi == 1 else 112, b"\0")
    return struct.pack("<BBQH", flags, abi | shape << 4, sectors, limit) + slot + page


def segments(*pairs):
    return b"".join(struct.pack("<IBBH", 8 + index, first, last, 0) for index, (first, last) in enumerate(pairs))


for abi in (1, 2):
    whole = segments(*[(0, 7)] * 11)
    put = lambda name, *rest, **more: seed("FuzzBlockRequest", f"{name}-{abi}", request(abi, *rest, **more))
    put("read", 0, 1, 0, 8, segments((0, 7)))
    put("write", 1, 11, 0, 8, whole)
    put("barrier", 2, 0, 0, 0, b"")
    put("flush", 3, 0, 0, 2**64 - 1, b"")
    put("flush-write", 3, 2, 0, 0, whole)
    put("a8-last-255", 1, 2, 0, 0, segments((0, 7), (0, 255)))
    put("a9-count-12", 1, 12, 0, 0, whole)
    put("a9-count-255", 0, 255, 0, 0, whole)
    put("a20-operation-77", 77, 1, 0, 0, whole)
    put("a21-wrap", 0, 1, 0, 2**64 - 1, whole)
    put("a21-end", 0, 1, 0, 4089, whole)
    put("read-only", 1, 1, 0, 0, whole, flags=0x1F)
    put("large-sectors", 1, 1, 0, 4, segments((0, 3)), shape=3)
    put("discard", 5, 1, 0, 8, struct.pack("<Q", 16))
    put("discard-wrap", 5, 0, 0, 8, struct.pack("<Q", 2**64 - 8))
    refs = struct.pack("<H", 0) + b"\0\0" + struct.pack("<8I", *range(8))
    put("indirect", 6, 1, 32, 8, refs, page=segments(*[(0, 7)] * 32))
    put("indirect-in-indirect", 6, 6, 32, 8, refs)
    put("indirect-513", 6, 0, 513, 0, refs, sectors=1 << 40, limit=4096, page=segments(*[(1, 1)] * 513))
    put("indirect-65535", 6, 0, 65535, 0, refs)

for start in (0, 0xFFFFFFF0):
    head = struct.pack("<IB", start, 1)
    put = lambda name, *ops: seed("FuzzRing", f"{name}-{start:x}", head + b"".join(ops))
    produced = lambda distance: bytes([0]) + struct.pack("<I", (start + distance) & 0xFFFFFFFF)
    event = lambda distance: bytes([2]) + struct.pack("<I", (start + distance) & 0xFFFFFFFF)
    TAKE, ARM, PUSH, PUBLISH = b"\5", b"\6", b"\7", b"\x08"
    put("full-turn", produced(32), TAKE * 33, PUSH * 32, event(1), PUBLISH, ARM)
    put("a13-one-more", produced(33), TAKE, ARM)
    put("a13-far", produced(1 << 31), TAKE, TAKE)
    put("a13-backwards", produced(4), TAKE * 4, produced(2), TAKE)
    put("a14-own-words", bytes([3]) + b"\xff" * 4 + b"\0", produced(2), TAKE * 2, PUSH * 2, PUBLISH)
    put("turns", *[produced(8 * turn) + TAKE * 8 + PUSH * 8 + event(8 * turn - 3) + PUBLISH + ARM for turn in range(1, 9)])


def dump(kind, entries, class64=True, own=b""):
    """A dump whose pages lie beyond its end: small, and translating needs none."""
    words = lambda *values: struct.pack(f"<{len(values)}Q", *values)
    note = lambda number, content: struct.pack("<III", 4, len(content), 0x2000000 + number) + b"Xen\0" + content
    notes = note(0, b"") + note(1, words(0xF00FEBED + kind, 1, len(entries), 4096)) + note(3, words(1))
    table = b"".join(words(*(entry if kind == 0 else entry[:1])) for entry in entries)
    name = b".xen_pfn" if kind else b".xen_p2m"
    names = b"\0.shstrtab\0.note.Xen\0.xen_pages\0" + name + b"\0.xen_prstatus\0"
    at = lambda text: names.index(text)
    head, each = (64, 64) if class64 else (52, 40)
    start = head + each * 6
    places = [start, start + len(names), 0, start + len(names) + len(notes), start + len(names) + len(notes) + len(table)]
    places[2] = places[4] + 4096
    body = names + notes + table + b"\0" * 16
    parts = [(b".shstrtab", 3, places[0], len(names), 0), (b".note.Xen", 7, places[1], len(notes), 0),
             (b".xen_pages", 1, places[2], 4096 * len(entries), 4096), (name, 1, places[3], len(table), 8 if kind else 16),
             (b".xen_prstatus", 1, places[4], 16, 16)]
    layout = "<IIQQQQIIQQ" if class64 else "<IIIIIIIIII"
    headers = bytes(each) + b"".join(struct.pack(layout, at(n), t, 0, 0, o, s, 0, 0, 8, e) for n, t, o, s, e in parts)
    elf = b"\x7fELF" + bytes([2 if class64 else 1, 1, 1, 0, 1]) + bytes(7)
    elf += struct.pack("<HHIQQQIHHHHHH" if class64 else "<HHIIIIIHHHHHH", 4, 62, 1, 0, 0, head, 0, head, 56, 0, each, 6, 1)
    return elf + headers + body


UNUSED = (2**64 - 1, 2**64 - 1)
for wide in (True, False):
    for kind in (0, 1):
        put = lambda name, entries: seed("FuzzDump", f"{name}-{kind}-{wide}", b"\0" + dump(kind, entries, wide))
        put("runs", [(page, page + 100) for page in range(8)] + [(page + 50, 300 - page) for page in range(8)])
        put("unused", [(1, 2), (3, 4), UNUSED, UNUSED])
        put("meeting", [(1, 2), (3, 2), (1, 7), UNUSED, (5, 8)])
        put("far", [(1 << 40, 1), (1, 1 << 50), (2**64 - 2, 3)])
        put("none", [])
seed("FuzzDump", "ancient", b"\0" + struct.pack("<I", 0xF00FEBED) + bytes(60))
seed("FuzzDump", "table", b"\1\0" + b"\5\1\11" + b"\2" * 20 + b"\5\7\11" + b"\2" * 4 + b"\0\1" + b"\xff" * 16)
seed("FuzzDump", "translated", b"\1\1" + b"\5\1\11" + b"\2" * 20 + b"\5\7\11\0\0")
point = lambda frame, place, to, kind: struct.pack("<BHBBB", frame, place, 0, to, kind)
# Four levels of tables at 0xffffc90000000000, then a page of entries; and the tree of frames.
seed("FuzzDump", "linear", b"\2\0" + struct.pack("<BHBBQ", 0, 40, 0, 1, 0) + point(1, 402, 2, 0) + point(2, 0, 3, 0) + point(3, 0, 4, 0)
     + point(4, 0, 5, 0) + struct.pack("<BHBBB", 5, 0, 30, 9, 3))
seed("FuzzDump", "tree", b"\2\0" + struct.pack("<BHBBQ", 0, 40, 1, 0, 0) + point(1, 0, 2, 3) + point(2, 0, 3, 3)
     + struct.pack("<BHBBBH", 3, 5, 3, 7, 1, 0x8000))
