#!/usr/bin/env python3
"""Holds the sources to one rule: whoever writes `unsafe` says why it is sound.

tools/checks/safety.py [FOLDER]: looks at FOLDER/Sources (FOLDER: this checkout) and names, one line each, the first `unsafe` of each
function, initializer and property that has no comment `SAFETY: reason`
  - in it,
  - in the comment directly above it, or
  - in the doc comment of a type that it is a member of, also by an extension within the module.
A scan of lines and braces: a declaration begins on a line of its own, as swift format writes it, and what is declared within a function is
a part of that. `nonisolated(unsafe)` and `@unsafe` say something of a declaration and are no blocks.
"""
import collections
import pathlib
import re
import sys

SAFETY = re.compile(r"//.*\bSAFETY: \S")
UNSAFE = re.compile(r"(?<!nonisolated\()(?<![@.\w`])unsafe(?![\w`])")
ATTRIBUTES = r"(?:@[\w.]+(?:\([^)]*\))?\s+)*(?:[a-z]+(?:\([\w ]+\))?\s+)*?"
DECLARATION = re.compile(
    rf"\s*{ATTRIBUTES}(?:(struct|class|enum|actor|extension|protocol)\s+([\w.]+)"
    r"|(?:func|deinit|subscript|var|let|case|typealias)\b|init[?!]?[<(])")
ABOVE = re.compile(r"\s*(//|@)")
# A string with what is interpolated into it, or a comment to the line's end.
TOKEN = re.compile(r'#"(?:[^"]|"(?!#))*"#|"(?:[^"\\]|\\.)*"|//.*')


class Declaration:
    """One that is not over yet."""

    def __init__(self, depth: int, is_type: bool, is_excused: bool):
        # Braces around it; whether its members are looked at one by one; whether a reason has been found; its first `unsafe`.
        self.depth, self.is_type, self.is_excused, self.fault = depth, is_type, is_excused, None


def without_comments(lines: list[str]) -> list[str]:
    """The code of each line, texts over several lines left out."""
    code, in_text = [], False
    for line in lines:
        if line.count('"""') % 2 == 1:
            code.append("" if in_text else line.split('"""')[0])
            in_text = not in_text
        else:
            code.append("" if in_text else TOKEN.sub(lambda token: "" if token[0].startswith("//") else token[0], line))
    return code


def comment_above(lines: list[str], at: int) -> str:
    first = at
    while first > 0 and ABOVE.match(lines[first - 1]):
        first -= 1
    return "\n".join(lines[first:at])


def sound_types(files: list[list[str]]) -> set[str]:
    """Types whose doc comment says why all of them is sound."""
    names = set()
    for lines in files:
        for number, line in enumerate(lines):
            found = DECLARATION.match(line)
            if found and found[2] and found[1] != "extension" and SAFETY.search(comment_above(lines, number)):
                names.add(found[2])
    return names


def faults_of(lines: list[str], sound: set[str]) -> list[int]:
    """Numbers of lines, from 1."""
    faults: list[int] = []
    around: list[Declaration] = []
    depth = 0

    def end(down_to: int) -> None:
        while around and around[-1].depth >= down_to:
            last = around.pop()
            if last.fault and not last.is_excused:
                faults.append(last.fault)

    for number, code in enumerate(without_comments(lines)):
        found = DECLARATION.match(code)
        if found and all(one.is_type for one in around if one.depth < depth):
            end(depth)
            reason = SAFETY.search(comment_above(lines, number)) or any(one.is_excused for one in around)
            around.append(Declaration(depth, bool(found[2]), bool(reason or found[2] and found[2].split(".")[-1] in sound)))
        if around:
            here = around[-1]
            # A comment at the declaration's own depth is behind it, and the next one's.
            if not here.is_type and SAFETY.search(lines[number]) and (code.strip() or depth > here.depth):
                here.is_excused = True
            if UNSAFE.search(code):
                here.fault = here.fault or number + 1
        braces = TOKEN.sub("", code)
        depth += braces.count("{") - braces.count("}")
        if braces.lstrip().startswith("}"):
            end(depth + 1)
    end(0)
    return sorted(faults)


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    sources = root / "Sources"
    modules: dict[tuple[str, ...], dict[pathlib.Path, list[str]]] = collections.defaultdict(dict)
    for file in sorted(sources.rglob("*.swift")):
        # A module is a folder of its wing, and a wing one of Sources/, or of Drivers/.
        parts = file.relative_to(sources).parts
        modules[parts[:3 if parts[0] == "Drivers" else 2]][file] = file.read_text(encoding="utf-8").split("\n")
    if not modules:
        print(f"safety: {sources}: no sources found", file=sys.stderr)
        return 2
    complaints = []
    for files in modules.values():
        sound = sound_types(list(files.values()))
        for file, lines in files.items():
            name = file.relative_to(sources).as_posix()
            complaints += [f"Sources/{name}:{line}: unsafe, and no SAFETY comment that says why it is sound"
                           for line in faults_of(lines, sound)]
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"safety: each unsafe block says why it is sound, in {len(modules)} modules")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
