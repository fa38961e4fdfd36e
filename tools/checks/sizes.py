#!/usr/bin/env python3
"""Holds files and functions to the sizes that CONTRIBUTING.md names.

tools/checks/sizes.py [FOLDER]: looks at the Swift sources below FOLDER's Sources, Tests, Examples and tools (FOLDER: this
checkout) and says, one line each, where a file has more than 400 lines and where a function has more than 60, signature and all.
A function's end is the first line that closes it at the depth it began at: the formatter (`make lint`) sees to that.
"""
import pathlib
import re
import sys

FOLDERS = ["Sources", "Tests", "Examples", "tools"]
MOST_LINES = 400
MOST_FUNCTION_LINES = 60

DECLARATION = re.compile(
    r"^(?P<indent> *)(?:@\w+(?:\([^)]*\))? +|[a-z]+(?:\((?:set|unsafe)\))? +)*?"
    r"(?:func +(?P<func>[^\s(<]+)|(?P<init>init)[?!]?[(<]|(?P<deinit>deinit)\b|(?P<subscript>subscript)[(<]"
    r"|var +(?P<var>\w+) *:[^={]*\{$)")
# What a signature's lines begin with, if they are not deeper than its first.
GOES_ON = re.compile(r"^ *(?:\)|->|where\b|throws\b|async\b|\{)")


def sources(root: pathlib.Path) -> list[pathlib.Path]:
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.swift"))]
    return [file for file in files if not any(part.startswith(".build") for part in file.relative_to(root).parts)]


def without_texts(lines: list[str]) -> list[str]:
    """The lines, those within a text of several lines emptied: they are not code."""
    code, inside = [], False
    for line in lines:
        code.append("" if inside else line)
        if line.split("//")[0].count('"""') % 2 == 1:
            inside = not inside
    return code


def end(code: list[str], start: int, indent: str) -> int | None:
    """The index of the last line of what is declared on line `start`; None: it has no body."""
    line = start
    while "{" not in code[line]:
        line += 1
        if line == len(code):
            return None
        deeper = code[line].startswith(indent + " ") and code[line].strip()
        if not deeper and not (code[line].startswith(indent) and GOES_ON.match(code[line])):
            return None
    if code[line].count("{") == code[line].count("}"):
        return line
    return next((last for last in range(line + 1, len(code)) if code[last].startswith(indent + "}")), None)


def functions(lines: list[str]) -> list[tuple[int, str, int]]:
    """Each function: its first line's number, its name, and how many lines it has."""
    found = []
    code = without_texts(lines)
    for start, text in enumerate(code):
        declaration = DECLARATION.match(text)
        if not declaration:
            continue
        last = end(code, start, declaration["indent"])
        if last is not None:
            name = next(name for kind, name in declaration.groupdict().items() if kind != "indent" and name)
            found.append((start + 1, name, last - start + 1))
    return found


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    files = sources(root)
    if not files:
        print(f"sizes: {root}: no Swift sources found", file=sys.stderr)
        return 2
    faults, count = [], 0
    for file in files:
        lines = file.read_text().splitlines()
        name = file.relative_to(root)
        if len(lines) > MOST_LINES:
            faults.append(f"{name}:{MOST_LINES + 1}: {len(lines)} lines, more than {MOST_LINES}")
        for line, function, length in functions(lines):
            count += 1
            if length > MOST_FUNCTION_LINES:
                faults.append(f"{name}:{line}: {function} has {length} lines, more than {MOST_FUNCTION_LINES}")
    for fault in faults:
        print(fault)
    if not faults:
        print(f"sizes: {len(files)} files, {count} functions, none too long")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
