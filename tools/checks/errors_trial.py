#!/usr/bin/env python3
"""Whether errors.py finds what it is for, and only that: sound sources, and each mistake in them, one at a time."""
import pathlib
import sys

from trial import complaints, report

CHECK = pathlib.Path(__file__).with_name("errors.py")
SAYS = "Error, CustomStringConvertible {\n    var description: String { \"\" }\n"
SOUND = {
    "in the declaration": f"enum A: {SAYS}    case one\n}}\n",
    "in an extension": "enum A: Error { case one }\nextension A: CustomStringConvertible {}\n",
    "in an extension of a nested type": "enum A {\n    struct B: Error {}\n}\nextension A.B: CustomStringConvertible {}\n",
    "by a protocol of ours": "protocol P: Error, CustomStringConvertible {}\nstruct A: P {}\n",
    "carries what says itself": f"struct B: CustomStringConvertible {{}}\nenum A: {SAYS}    case one(B, of: String)\n}}\n",
    "carries its own type, not another's of the same name":
        f"enum A: {SAYS}    enum Cause: CustomStringConvertible {{ case x }}\n    case one(Cause)\n}}\n",
    "not an error": "enum A: Hashable { case one }\nstruct Errors<Failure: Error> {}\nfunc f<E: Error>() throws(E) {}\n",
    "words only": "// enum A: Error {}\nlet a = \"enum A: Error { try FileManager.default }\"\n",
    "Foundation's error dropped": "let a = try? FileManager.default.contentsOfDirectory(atPath: \"\")\n",
}
MUTE = "does not say itself"
# What is wrong, the source, and the lines that it is found in, with what is said there.
MISTAKES = [
    ("an enum", "enum A: Error {\n    case one\n}\n", [(1, MUTE)]),
    ("a struct among other protocols", "\npublic struct A: Hashable, Error,\n    Sendable {\n    let a = 1\n}\n", [(3, MUTE)]),
    ("with a raw type", "enum A: String, Error { case one }\n", [(1, MUTE)]),
    ("an error by an extension", "enum A { case one }\nextension A: Error {}\n", [(1, MUTE)]),
    ("an error by a protocol", "protocol P: Error {}\nstruct A: P {}\n", [(2, MUTE)]),
    ("a nested one", "final class A {\n    private struct B: Error {\n        let a = 1\n    }\n}\n", [(2, MUTE)]),
    ("one with a parameter", "struct A<B>: Error {}\n", [(1, MUTE)]),
    ("a case that carries a mute type", f"enum B {{ case x }}\nenum A: {SAYS}    case one(Int, of: B)\n}}\n", [(2, "carries a B")]),
    ("one within another type", f"enum O {{\n    enum B {{ case x }}\n}}\nenum A: {SAYS}    case one(O.B)\n}}\n", [(4, "carries a B")]),
    ("an array of them", f"enum B {{ case x }}\nenum A: {SAYS}    case one([B])\n}}\n", [(2, "carries a B")]),
    ("a property of a mute type", f"enum B {{ case x }}\nstruct A: {SAYS}    let b: B?\n}}\n", [(2, "carries a B")]),
    ("Foundation's file manager", "func f() throws {\n    try FileManager.default.removeItem(atPath: \"\")\n}\n", [(2, "Foundation's")]),
    ("Foundation's file", "func f() throws {\n    _ = try Data(contentsOf: u)\n}\n", [(2, "Foundation's")]),
]


def main() -> int:
    failures = []

    def expect(what: str, text: str, wanted: list[tuple[int, str]]) -> None:
        status, said = complaints(CHECK, {"Host/LinuxSystem/A.swift": text})
        lines = said.splitlines() if status else []
        places = [f"Sources/Host/LinuxSystem/A.swift:{line}" for line, _ in wanted]
        agrees = [line.split(": ")[0] for line in lines] == places and all(part in line for line, (_, part) in zip(lines, wanted))
        if status != (1 if wanted else 0) or not agrees:
            failures.append(f"{what}: {wanted} expected, status {status}: {said.splitlines()}")

    for what, text in SOUND.items():
        expect(what, text, [])
    for what, text, wanted in MISTAKES:
        expect(what, text, wanted)
    return report(failures, f"errors_trial: each of {len(MISTAKES)} mistakes is found, and nothing else")


if __name__ == "__main__":
    sys.exit(main())
