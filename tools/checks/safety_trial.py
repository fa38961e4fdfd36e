#!/usr/bin/env python3
"""Whether safety.py finds what it is for, and only that: sound sources, and each mistake in them, one at a time."""
import pathlib
import sys

from trial import complaints, report

CHECK = pathlib.Path(__file__).with_name("safety.py")
SOUND = {
    "a comment before the block": "func f() {\n    let n = 1\n    // SAFETY: a reason.\n    unsafe g(n)\n}\n",
    "a comment within the function, deeper": "func f() {\n    if a {\n        // SAFETY: a reason.\n        unsafe g()\n    }\n}\n",
    "a comment above, below the doc comment": "/// A doc.\n// SAFETY: a reason.\n@inline(__always)\nfunc f() { unsafe g() }\n",
    "a comment behind the code": "func f() {\n    unsafe g()  // SAFETY: a reason.\n}\n",
    "a reason of the whole type": "/// A doc.\n///\n/// SAFETY: a reason.\n@safe\nfinal class A {\n    func f() { unsafe g() }\n    deinit { unsafe h() }\n}\n",
    "a type within such a type": "/// SAFETY: a reason.\nstruct A {\n    struct B {\n        var n: Int { unsafe g() }\n    }\n}\n",
    "a property's accessors": "struct A {\n    var n: Int {\n        // SAFETY: a reason.\n        get { unsafe g() }\n        set { unsafe h() }\n    }\n}\n",
    "a header of several lines": "func f(\n    _ a: Int\n) throws(E) -> Int\n{\n    // SAFETY: a reason.\n    unsafe g()\n}\n",
    "no block: attributes, comments, words": "@unsafe func f() {}\nnonisolated(unsafe) var a = 1\n/// unsafe\nlet unsafeA = 1 // unsafe\n",
    "no block: a text of several lines": 'let a = """\n    unsafe {\n    """\nfunc f() {}\n',
}
# What is wrong, the source, and the lines that it is found in.
MISTAKES = [
    ("no comment", "func f() {\n    unsafe g()\n}\n", [2]),
    ("no comment in one line", "func f() { unsafe g() }\n", [1]),
    ("a comment without a reason", "func f() {\n    // SAFETY:\n    unsafe g()\n}\n", [3]),
    ("the neighbour's comment", "struct A {\n    func e() {\n        // SAFETY: a reason.\n        unsafe g()\n    }\n\n    func f() { unsafe g() }\n}\n", [7]),
    ("the next one's comment", "func e() { unsafe g() }\n// SAFETY: a reason.\nfunc f() { unsafe g() }\n", [1]),
    ("a comment of the file", "// SAFETY: a reason.\n\nfunc f() { unsafe g() }\n", [3]),
    ("a neighbouring type's reason", "/// SAFETY: a reason.\nstruct A {\n    var a = 1\n}\n\nstruct B {\n    init() {\n        unsafe g()\n    }\n}\n", [8]),
    ("after a type that ends", "/// SAFETY: a reason.\nstruct A {\n    struct B {}\n}\nfunc f() { unsafe g() }\n", [5]),
    ("a stored property", "struct A {\n    private var a: [P] = unsafe []\n}\n", [2]),
    ("within an interpolated text", 'func f() {\n    print("{ \\(unsafe g()) //")\n}\n', [2]),
    ("each of several, its first", "struct A {\n    init() {\n        unsafe g()\n        unsafe g()\n    }\n    deinit { unsafe h() }\n}\n", [3, 6]),
    ("within an expression", "func f() throws {\n    if a, try !unsafe g() { h() }\n}\n\nfunc h() {\n    i(unsafe g())\n}\n", [2, 6]),
]
EXTENDED = {"B.swift": "extension A {\n    func f() { unsafe g() }\n}\n"}
REASON = {"A.swift": "/// SAFETY: a reason.\nstruct A {\n    func e() { unsafe g() }\n}\n"}


def main() -> int:
    failures = []

    def expect(what: str, files: dict[str, str], places: list[str]) -> None:
        status, text = complaints(CHECK, files)
        lines = text.splitlines()
        found = [line.split(": ")[0] for line in lines] if status else []
        if (status, found) != (1 if places else 0, places):
            failures.append(f"{what}: {places} expected, status {status}: {lines}")

    for what, text in SOUND.items():
        expect(what, {"Host/LinuxSystem/A.swift": text}, [])
    for what, text, lines in MISTAKES:
        expect(what, {"Host/LinuxSystem/A.swift": text}, [f"Sources/Host/LinuxSystem/A.swift:{line}" for line in lines])
    here, apart = "Drivers/Block/BlockModel", "Drivers/Block/BlockFrontend"
    expect("an extension in the module", {f"{here}/{n}": t for n, t in {**REASON, **EXTENDED}.items()}, [])
    expect("an extension in another module", {f"{here}/A.swift": REASON["A.swift"], f"{apart}/B.swift": EXTENDED["B.swift"]},
           [f"Sources/{apart}/B.swift:2"])
    return report(failures, f"safety_trial: each of {len(MISTAKES) + 1} mistakes is found, and nothing else")


if __name__ == "__main__":
    sys.exit(main())
