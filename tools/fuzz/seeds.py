#!/usr/bin/env python3
"""Writes the fuzzers' first inputs into the folder given: rows of Docs/attacks.md, as bytes."""
import os
import random
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
    put("A8-last-255", 1, 2, 0, 0, segments((0, 7), (0, 255)))
    put("A9-count-12", 1, 12, 0, 0, whole)
    put("A9-count-255", 0, 255, 0, 0, whole)
    put("A20-operation-77", 77, 1, 0, 0, whole)
    put("A21-wrap", 0, 1, 0, 2**64 - 1, whole)
    put("A21-end", 0, 1, 0, 4089, whole)
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
    put("A13-one-more", produced(33), TAKE, ARM)
    put("A13-far", produced(1 << 31), TAKE, TAKE)
    put("A13-backwards", produced(4), TAKE * 4, produced(2), TAKE)
    put("A14-own-words", bytes([3]) + b"\xff" * 4 + b"\0", produced(2), TAKE * 2, PUSH * 2, PUBLISH)
    put("turns", *[produced(8 * turn) + TAKE * 8 + PUSH * 8 + event(8 * turn - 3) + PUBLISH + ARM for turn in range(1, 9)])

# Virtqueues: shape (size, tables, events), where the indices begin, then operations (see FuzzSplitRing.swift, FuzzPackedRing.swift).
near = lambda place, offset=0: bytes([place, offset & 0xFF])
short = lambda count: bytes([count << 2])
for shape in range(32):
    split = lambda name, *ops: seed("FuzzSplitRing", f"{name}-{shape}", bytes([shape]) + b"\xfe\xff" + b"".join(ops))
    entry = lambda index, place, count, flags=0, follow=0: bytes([flags * 16 + (13 - flags * 16) % 13, index]) + place + count + bytes([follow])
    show = lambda head: bytes([3, head])
    TAKE, PUT, PUBLISH, ARM = b"\x08", b"\x0a\0\0\x10\0\0", b"\x0b", b"\x0c"
    split("one", entry(0, near(0), short(16)), show(0), TAKE, TAKE, PUT, ARM, PUBLISH, ARM)
    split("chain", entry(0, near(0), short(16), 1, 1), entry(1, near(1, -8), short(32), 2), show(0), TAKE, PUT, PUBLISH)
    split("circle", entry(0, near(0), short(16), 1, 0), show(0), TAKE, TAKE)
    split("table", bytes([2, 0]) + near(3) + short(16) + b"\2\0", entry(0, near(0), bytes([1 + 4]), 4), show(0), TAKE, PUT, PUBLISH)
    split("cut-table", bytes([2, 0x80]) + near(3) + short(16) + b"\1\1", bytes([2, 0x81]) + near(3) + short(16) + b"\2\0",
          entry(0, near(1, -24), bytes([1 + 8]), 4), show(0), TAKE, PUT, PUBLISH)
    split("twice", entry(0, near(0), short(16)), show(0), show(0), TAKE, TAKE)
    split("ahead", b"\x05\xff", TAKE, ARM)
    packed = lambda name, *ops: seed("FuzzPackedRing", f"{name}-{shape}", bytes([shape]) + b"".join(ops))
    item = lambda place, count, flags=0, name=0: bytes([flags * 16 + (11 - flags * 16) % 11]) + place + count + bytes([name])
    TAKE, PUT, PUBLISH, ARM = b"\x06", b"\x08\0\0\x10\0\0", b"\x09", b"\x0a\0\0"
    packed("turns", *[item(near(0), short(16), 0, turn) + TAKE + PUT + PUBLISH + ARM for turn in range(9)])
    packed("chain", item(near(0), short(16), 1), item(near(1, -8), short(32), 2, 7), TAKE, PUT, PUBLISH)
    packed("table", bytes([3, 0]) + near(3) + short(16) + b"\2\0", item(near(0), bytes([1 + 4]), 4), TAKE, PUT, PUBLISH)
    packed("endless", *[item(near(0), short(16), 1) for turn in range(9)], TAKE)
    packed("twice", item(near(0), short(16), 0, 3), item(near(0), short(16), 0, 3), TAKE, TAKE)


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


# The network's targets. A transmit input: which pages are mapped (4 bytes), multicast control, then operations (see FuzzTransmit.swift).
for mapped in (0, 0xFFFFFF):
    head = struct.pack("<IB", mapped, 1)
    put = lambda name, *ops: seed("FuzzTransmit", f"{name}-{mapped:x}", head + b"".join(ops))
    slot = lambda page, size, flags=0, offset=0: bytes([0x80, page]) + struct.pack("<HB", offset, size) + bytes([flags])
    large = lambda page, size, flags=0, offset=0: bytes([0xE0, page]) + struct.pack("<HH", offset, size) + bytes([flags])
    extra = lambda kind, more=0, data=b"\xa8\x05\x01\0\0\0": bytes([0xC3, kind, more]) + data
    headers = lambda page, shape: bytes([0x04, page, shape])
    FULL, FAIL, RUN = bytes([5]), bytes([5 + 8]), b"\7"
    put("one", slot(0, 60), RUN)
    put("B22-19-slots", large(0, 1900, 4), *[slot(n, 100, 4) for n in range(1, 18)], slot(18, 100), RUN)
    put("B22-21-slots", large(0, 2100, 4), *[slot(n, 100, 4) for n in range(1, 20)], slot(20, 100), RUN)
    put("B22-30-slots", large(0, 3000, 4), *[slot(n, 100, 4) for n in range(1, 30)], RUN)
    put("B14-crossing", slot(0, 100, 0, 4000), RUN)
    put("B15-empty", slot(0, 50, 4), slot(1, 0, 4), slot(2, 0), RUN)
    put("B23-open-extra", slot(0, 60, 8), extra(1, 1), RUN)
    put("B23-unknown", slot(0, 60, 8), extra(77), RUN)
    put("B24-size-0", slot(0, 60, 8), extra(1, 0, b"\0\0\1\0\0\0"), RUN)
    put("B25-short", slot(0, 13), slot(0, 14), RUN)
    put("B26-multicast", slot(0, 0, 8), extra(2, 0, b"\1\0\x5e\0\0\1"), slot(0, 0, 8), extra(3, 0, b"\1\0\x5e\0\0\1"), RUN)
    put("full", slot(0, 60), slot(1, 60), slot(2, 60), FULL, FAIL, RUN, slot(3, 60), RUN)
    for shape in range(0, 256, 5):
        put(f"tcp-{shape}", headers(0, shape), large(0, 3000, 9), extra(1), RUN, slot(0, 200, 1), RUN)
    put("B8-bad-reference", large(0, 300, 4), slot(24, 100, 4), slot(25, 100), RUN)

# netfront's end (first byte 0): responses with their own ids, then a look; netback's (1): pages, frames, looks.
answer = lambda status, flags=0: bytes([0x00, status, flags])
put = lambda name, *ops: seed("FuzzReceive", name, b"\0" + b"".join(ops))
put("front-one", bytes([4, 0, 0]), answer(100), b"\7")
put("front-c9-short-first", answer(10, 4), answer(100), b"\7")
put("front-c10-chain", *[answer(100, 4)] * 20, answer(100), b"\7")
put("front-c20-extra", bytes([4, 0, 0]), answer(200, 8), bytes([0x03]) + struct.pack("<Q", 1 | 1448 << 16 | 1 << 32), b"\7")
put("front-open", answer(100, 4), b"\7")
put("front-blank", bytes([4, 0, 1]), answer(200, 2), b"\7")
put("front-full", answer(100), answer(90), bytes([5]), bytes([5 + 8]), b"\7")
put("front-c13-index", bytes([0xF6, 1, 0]))
post = bytes([0xF0] + [n for page in range(16) for n in (page, page)])
for features in (0, 1, 9, 25, 31):
    head = bytes([1, features, 0])
    put = lambda name, *ops: seed("FuzzReceive", f"back-{name}-{features}", head + b"".join(ops))
    frame = lambda size: bytes([0x42, 0]) + struct.pack("<H", size) + b"\0"
    marked = lambda size: bytes([0x4A + 0x20, 0]) + struct.pack("<H", size) + bytes([34, 16, 0]) + struct.pack("<HH", 1448, 54) + b"\0"
    put("frames", post, frame(60), frame(5000), b"\7", frame(9000), b"\7")
    put("few-pages", bytes([0x00, 1, 1]), frame(5000), b"\7", post, b"\7")
    put("expire", frame(5000), b"\7", bytes([6]), b"\7", post, frame(60), b"\7")
    put("segments", post, marked(20000), b"\7", marked(3000), b"\7")
    put("mapped", bytes([0xF4] + list(range(16))), post, frame(60), marked(5000), b"\7")
    put("hashed", post, bytes([0xFD, 0]), bytes([0x0D + 0xF0, 8]) + b"k" * 8, frame(60), marked(5000), b"\7")
    put("B27-read-only", bytes([0x20, 1, 41, 2, 0, 3, 1]), frame(9000), b"\7")

ask = lambda kind, *data: bytes([1, kind]) + b"".join(data)
edge = lambda index: bytes([0x40 + index])
small = lambda value: bytes([value])
wide = lambda value: b"\xff" + struct.pack("<I", value)
on = ask(7, small(1), small(0), small(0)) + ask(2, small(15), small(0), small(0))
named = lambda kind, page, *data: bytes([3, kind]) + b"".join(data) + bytes([page])
put = lambda name, *ops: seed("FuzzControl", name, b"".join(ops))
put("B6-on", on, named(3, 0, small(0), edge(3), small(0)), ask(5, edge(7), small(0), small(0)))
for count in range(16):
    put(f"B6-mapping-{count}", on, ask(5, edge(7), small(0), small(0)), *[named(6, 0, small(0), edge(count), edge(start)) for start in range(16)])
entries = lambda page, *references: bytes([2, page, 0, len(references)]) + bytes(n for reference in references for n in (reference, 0))
put("B30-mappings", entries(7, 0, 1, 2, 9, 13, 0), named(9, 7, small(0), small(0), small(6)), named(10, 7, small(0), small(0), small(6)))
put("B30-limit", entries(7, 0, 1, 2, 3, 4, 5, 6, 7), named(9, 7, small(1), small(0), small(8)), named(10, 7, small(1), small(0), small(3)))
put("B30-unknown", *[ask(kind, small(0), small(0), small(0)) for kind in range(12)])

# An IO address space, a code and a page's and a count's kind for each call; then a map, and a device.
for head in range(16):
    for nasty in range(8):
        calls = lambda page, count: b"".join(bytes([code, page | nasty << 4, count | nasty << 4, 2, 7]) for code in range(16))
        seed("FuzzTranslation", f"space-{head}-{nasty}", bytes([0, head]) + calls(8, 1) + calls(3, 9) + calls(7, 9) + calls(5, 3))
        seed("FuzzTranslation", f"map-{head}-{nasty}", bytes([2, head]) + calls(0, 10) + calls(8, 9) + calls(10, 10))
        seed("FuzzTranslation", f"device-{head}-{nasty}", bytes([1, head]) + calls(nasty, 1) + calls(13, 9))

# A front end's messages as QEMU sends them: number, flags (1) and the kind of descriptor above them, length, payload.
CODES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 31, 32, 34, 35, 36, 37, 38, 39, 40, 42, 43]
say = lambda code, data=b"", descriptor=0, flags=1: bytes([CODES.index(code), flags | descriptor << 4, len(data)]) + data
words = lambda *values: struct.pack(f"<{len(values)}I", *values)
quads = lambda *values: struct.pack(f"<{len(values)}Q", *values)
area = lambda start: quads(0, start << 20, 0x10000, 0x7000_0000 + (start << 20), 0)
ring = lambda n, size=128: b"".join([
    say(8, words(n, size)), say(10, words(n, 0)), say(9, words(n, 0) + quads(0x7000_0000 + n * 0x4000, 0x7000_2000 + n * 0x4000,
    0x7000_1000 + n * 0x4000, 0)), say(13, quads(n), 2), say(12, quads(n), 2), say(18, words(n, 1))])
agree = say(1) + say(15) + say(16, quads(0xB20B)) + say(17) + say(36) + say(3) + say(2, quads(1 << 32 | 1 << 30))
put = lambda name, *parts: seed("FuzzVhostSession", name, b"".join(parts))
put("boot", agree, say(37, area(0), 1, 9), ring(0), say(24, words(0, 60, 0)))
put("two-drivers", agree, say(37, area(0), 1, 9), ring(0), say(18, words(0, 0)), say(11, words(0, 0)), ring(0, 64), ring(1, 64))
put("table", agree, say(5, words(1, 0) + area(0)[8:], 1), ring(1), say(38, area(0)), say(34), say(2, quads(1 << 32)))
put("inflight", agree, say(31, quads(0, 0) + words(2 | 16 << 16, 0)), say(32, quads(4096, 0) + words(2 | 16 << 16, 0), 3), say(37, area(0), 1), ring(0, 16))
put("packed", agree, say(2, quads(1 << 32 | 1 << 30 | 1 << 34)), say(37, area(0), 1), ring(0, 100), say(35, words(0, 0)), say(39, quads(0)))
# A driver behind an IOMMU: its ring's pages one by one, then what takes them back, and ranges that cannot be.
word = lambda kind, address, count, user=0x7000_0000, rights=3: say(22, quads(address, count, user) + bytes([rights, kind, 0, 0, 0, 0, 0, 0]), 0, 9)
iommu = agree + say(21, b"", 4) + say(2, quads(1 << 33 | 1 << 32 | 1 << 30)) + say(37, area(0), 1, 9) + ring(0, 16)
pages = [word(2, 0x7000_0000 + n * 4096, 4096, 0x7000_0000 + n * 4096) for n in range(4)]
put("iommu", iommu, *pages, word(3, 0x7000_1000, 4096), pages[1], word(3, 0, 0), *pages, say(11, words(0, 0)))
put("iommu-scattered", iommu, *[word(2, 0x7000_0000 + n * 4096, 4096, 0x7000_0000 + 8192 * (4 - n)) for n in range(4)])
put("iommu-nonsense", iommu, word(2, 2**64 - 1, 2), word(2, 2**64 - 4096, 4096), word(2, 0, 2**64 - 1), word(2, 4096, 0), word(2, 4096, 1, 0x6FFF_FFFF),
    word(2, 0, 0x10000), word(2, 4096, 4096, 0x7000_0000), word(3, 100, 50), word(1, 0, 1), word(2, 8192, 4096, rights=0))

# A device's state without attributes, with a sum that is not right, and attributes of every length for one of our own.
state = b"CWDV" + struct.pack("<HHHHI", 1, 1, 2, 0, 1) + struct.pack("<HHIHHI", 3, 8, 1, 1, 0, 8) + quads(7)
seed("FuzzDeviceState", "state", b"\0" + state + struct.pack("<HHIHHI", 0xFFFF, 0, 0, 1, 0, 4) + bytes(8))
seed("FuzzDeviceState", "made", b"\1" + b"".join(bytes([group << 5 | size]) + bytes(size) for group in range(7) for size in (0, 7, 8, 31)))
# A virtio interface: side and ring, what was agreed on, then operations (see Sending.swift, Receiving.swift).
for shape in (0, 1, 2, 3, 24, 25, 26, 27):
    for agreed in (0, 0x07, 0x78, 0xFF):
        put = lambda name, *ops: seed("FuzzVirtioNetwork", f"{name}-{shape}-{agreed}", bytes([shape, agreed]) + b"".join(ops))
        if shape & 1 == 0:
            head = lambda flags, kind, *rest: bytes([3 | flags << 4, kind]) + bytes(rest)
            whole = lambda count, name=0: bytes([0, 0, 0, 1 | count << 2 & 0xFC, name])
            SHOW, WORK = b"\x02\x00", b"\x07"
            put("frame", whole(4), SHOW, WORK)
            put("blank", head(1, 0, 0, 0, 34, 16), whole(8), SHOW, WORK)
            put("outside", head(1, 0, 0, 0, 200, 100), whole(8), SHOW, WORK)
            put("last", head(1, 0, 0, 0, 100, 14), whole(8), SHOW, WORK)
            put("behind", head(1, 0, 0, 0, 100, 15), whole(8), SHOW, WORK)
            put("segments", head(1, 1, 54, 100, 34, 16), whole(40), SHOW, WORK)
            put("no-size", head(1, 1, 54, 0, 34, 16), whole(40), SHOW, WORK)
            put("full", whole(4), SHOW, b"\x26", WORK, b"\x06", WORK)
        else:
            memory = lambda name, count=15: bytes([0x80, count << 4, 0, name])
            frame = lambda length, kind=3: bytes([kind, length, 7])
            WORK = b"\x07"
            put("frame", memory(0), b"\x02\x00", frame(60), WORK)
            put("merged", frame(250, 0x83), WORK, *[memory(n, 1) + bytes([2, n]) + WORK for n in range(8)])
            put("blank", memory(0), b"\x02\x00", frame(100, 0x13), WORK)
            put("expired", frame(60), frame(61), WORK, b"\x05", WORK, memory(0), b"\x02\x00", WORK)

# An NBD client: each command, whole, at the edges, with half a write; and anything.
rng = random.Random(17)
for structured in range(2):
    honest = b"".join(
        bytes([kind, command, flags]) + place.to_bytes(2, "little") + length.to_bytes(2, "little") + bytes([command])
        for command in range(8) for flags in (0, 1, 16) for kind, place, length in ((0, 0, 4096), (8, 5, 700), (32, 1000, 65535), (16, 0, 512)))
    seed("FuzzNBD", f"honest{structured}", bytes([structured]) + honest[:4000])
    seed("FuzzNBD", f"half{structured}", bytes([structured, 129, 1, 0, 0, 0, 255, 15]) + bytes([7]) + honest[:200])
    seed("FuzzNBD", f"any{structured}", bytes([structured | 2]) + rng.randbytes(1500))

# An NVMe controller's driver: requests and completions without lies for each form of queue, then anything; and what a killed one left, changed.
rng = random.Random(16)
for shape in range(8):
    honest = bytes(
        b for _ in range(120)
        for b in ([rng.choice((0, 1, 2, 3, 4)) , rng.randrange(256), *rng.randbytes(40)] if rng.random() < 0.4
                  else [rng.choice((5, 6, 7, 8)), rng.randrange(256), rng.randrange(8)]))
    seed("FuzzNVMe", f"honest{shape}", bytes([shape * 16 << 1 & 0xFE | shape << 1 & 0xE]) + honest[:4000])
    seed("FuzzNVMe", f"any{shape}", bytes([shape << 3]) + rng.randbytes(1500))
    seed("FuzzNVMe", f"left{shape}", bytes([1 | shape << 1, shape]) + b"".join(
        bytes([rng.randrange(4)]) + struct.pack("<H", rng.randrange(1 << 16)) + rng.randbytes(1) for _ in range(shape * 3)))
