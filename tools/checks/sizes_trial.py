#!/usr/bin/env python3
"""Whether sizes.py finds what it is for: functions and files just too long, one at a time, and none that are just short enough."""
import pathlib
import subprocess
import sys
import tempfile

CHECK = pathlib.Path(__file__).with_name("sizes.py")


def body(first: str, lines: int, indent: str = "") -> str:
    """A declaration of so many lines."""
    return "\n".join([indent + first + " {", *[f"{indent}    step()"] * (lines - 2), indent + "}"]) + "\n"


def type_of(text: str) -> str:
    return "struct A {\n" + text + "}\n"


LONG_SIGNATURE = "func f(\n    a: Int,\n    b: Int\n) throws(E) -> Int"
TEXT = body("func f()", 40).replace("    step()\n", '    print("""\nfunc g() {\n        """)\n', 1) + "// no end\n" * 70
ATTRIBUTES = "@inlinable @_x(a, b) public static func f()"
NESTED = body("func f()", 3).replace("    step()\n", body("func g()", 61, "    "))
PROTOCOL = "protocol P {\n    func f()\n    func g(\n        a: Int\n    )\n\n" + "    // why\n" * 70 + "}\n" + body("func h()", 30)
# Sound, and what it is called.
SOUND = {
    "60 lines": body("func f()", 60),
    "two of 60 in a type": type_of(body("func f()", 60, "    ") + body("init(a: Int)", 60, "    ")),
    "a file of 400": "// why\n" * 400,
    "one line each": "func f() { step() }\n" * 100,
    "a protocol's, which have no body": PROTOCOL,
    "a text that looks like a function": TEXT,
    "a long type of short functions": type_of(body("func f()", 30, "    ") * 10),
}
# What is wrong, where it stands, its text, and where the complaint must be.
MISTAKES = [
    ("61 lines", "Sources/Host/A.swift", body("func f()", 61), "A.swift:1: f "),
    ("61 lines of a test", "Tests/Host/A.swift", "\n" + body("@Test func f() throws", 61), "A.swift:2: f "),
    ("61 lines of an example", "Examples/A/main.swift", body("func f()", 61), "main.swift:1: f "),
    ("61 lines of a tool", "tools/fuzz/Sources/A/A.swift", body("public func f()", 61), "A.swift:1: f "),
    ("a method", "Sources/Host/A.swift", type_of(body("private mutating func f()", 61, "    ")), "A.swift:2: f "),
    ("a method behind attributes", "Sources/Host/A.swift", type_of(body(ATTRIBUTES, 61, "    ")), "A.swift:2: f "),
    ("a generic function", "Sources/Host/A.swift", body("func f<T: P>(_ t: T) where T.A == Int", 61), "A.swift:1: f "),
    ("an operator", "Sources/Host/A.swift", type_of(body("static func == (a: A, b: A) -> Bool", 61, "    ")), "A.swift:2: == "),
    ("a signature of several lines", "Sources/Host/A.swift", body(LONG_SIGNATURE, 58), "A.swift:1: f has 61"),
    ("an initializer", "Sources/Host/A.swift", type_of(body("public init?(a: Int)", 61, "    ")), "A.swift:2: init "),
    ("a deinitializer", "Sources/Host/A.swift", type_of(body("deinit", 61, "    ")), "A.swift:2: deinit "),
    ("a subscript", "Sources/Host/A.swift", type_of(body("subscript(a: Int) -> Int", 61, "    ")), "A.swift:2: subscript "),
    ("a computed variable", "Sources/Host/A.swift", type_of(body("private(set) var a: [Int]", 61, "    ")), "A.swift:2: a "),
    ("the second of two", "Sources/Host/A.swift", body("func f()", 10) + body("func g()", 61), "A.swift:11: g "),
    ("one behind a protocol", "Sources/Host/A.swift", PROTOCOL + body("func g()", 61), ": g has 61"),
    ("a function within one", "Sources/Host/A.swift", NESTED, "A.swift:2: g "),
    ("401 lines", "Sources/Host/A.swift", "// why\n" * 401, "A.swift:401: 401 lines"),
    ("401 lines without the last line's end", "Tests/A.swift", "// why\n" * 400 + "// why", "A.swift:401: 401 lines"),
]


def complaints(file: str, text: str) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as root:
        # What was built is not looked at.
        for name, content in {file: text, "tools/a/.build/B.swift": "// why\n" * 500}.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        run = subprocess.run([sys.executable, str(CHECK), root], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr


def main() -> int:
    failures = []
    for what, text in SOUND.items():
        status, said = complaints("Sources/Host/A.swift", text)
        if status != 0:
            failures.append(f"refused, though it is sound: {what}: {said}")
    for what, file, text, word in MISTAKES:
        status, said = complaints(file, text)
        if status != 1 or word not in said:
            failures.append(f"not found: {what} (status {status}): {said}")
    for failure in failures:
        print(failure)
    if not failures:
        print(f"sizes_trial: each of {len(MISTAKES)} mistakes is found")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
