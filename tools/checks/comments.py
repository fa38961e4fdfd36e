#!/usr/bin/env python3
"""Comments are at most 120 columns wide, though code may be 132: prose is read, code is scanned.

tools/checks/comments.py [--fix] [FILE ...]: says which comment lines of Sources, Tests, Examples and tools are wider; with --fix
wraps the paragraphs that they stand in. A comment behind code counts with its line and is moved by hand.
"""
import pathlib
import re
import sys
import textwrap

WIDTH = 120
LINE = re.compile(r"^(\s*)(///?)( ?)(.*)$")
# Begins a paragraph of its own: a list's item, with where its further lines are indented to.
ITEM = re.compile(r"^(\s*(?:[-*]|\d+\.|\(\d+\))\s+)")
# Is left as it is: code, tables, headings, marks, pictures.
FIXED = re.compile(r"^(\s{4,}|\s*```|\s*\||#|MARK:|swift-|\s*[│├└┌─])")


def files(names: list[str]) -> list[pathlib.Path]:
    if names:
        return [pathlib.Path(n) for n in names]
    root = pathlib.Path(__file__).resolve().parents[2]
    found = [root / "Package.swift"]
    for folder in ("Sources", "Tests", "Examples", "tools"):
        found += sorted(p for p in (root / folder).rglob("*.swift") if not any(part.startswith(".build") for part in p.parts))
    return found


def blocks(lines: list[str]) -> list[tuple[int, int]]:
    """Runs of comment lines of one indentation and kind, as [first, end)."""
    found, start, form = [], None, None
    for number, line in enumerate(lines + [""]):
        match = LINE.match(line)
        this = match.group(1, 2) if match else None
        if start is not None and this != form:
            found.append((start, number))
            start = None
        if this and start is None:
            start, form = number, this
    return found


def wrapped(lines: list[str]) -> list[str]:
    """One block, with each paragraph that has a wide line filled anew."""
    indent, mark = LINE.match(lines[0]).group(1, 2)
    out: list[str] = []
    paragraph: list[str] = []
    fenced = False

    def close() -> None:
        if paragraph:
            texts = [LINE.match(line).group(4) for line in paragraph]
            if max(map(len, paragraph)) > WIDTH:
                item = ITEM.match(texts[0])
                first = item.group(1) if item else re.match(r"\s*", texts[0]).group(0)
                rest = " " * len(first)
                body = " ".join(t.strip() for t in [texts[0][len(first):]] + texts[1:])
                prefix = f"{indent}{mark} "
                out.extend(
                    textwrap.wrap(
                        body, WIDTH, initial_indent=prefix + first, subsequent_indent=prefix + rest, break_long_words=False,
                        break_on_hyphens=False))
            else:
                out.extend(paragraph)
        paragraph.clear()

    for line in lines:
        text = LINE.match(line).group(4)
        if text.startswith("```"):
            close()
            fenced = not fenced
            out.append(line)
        elif fenced or not text.strip() or FIXED.match(text):
            close()
            out.append(line)
        else:
            if ITEM.match(text):
                close()
            paragraph.append(line)
    close()
    return out


def main() -> int:
    arguments = sys.argv[1:]
    fix = "--fix" in arguments
    wide = 0
    for path in files([a for a in arguments if a != "--fix"]):
        lines = path.read_text().split("\n")
        if fix:
            new, last = [], 0
            for start, end in blocks(lines):
                new += lines[last:start] + wrapped(lines[start:end])
                last = end
            new += lines[last:]
            if new != lines:
                path.write_text("\n".join(new))
                lines = new
        for number, line in enumerate(lines, 1):
            if len(line) > WIDTH and LINE.match(line) and not FIXED.match(LINE.match(line).group(4)):
                wide += 1
                print(f"{path}:{number}: a comment of {len(line)} columns, {WIDTH} at most")
    if not wide:
        print(f"comments: none is wider than {WIDTH} columns")
    return 1 if wide else 0


if __name__ == "__main__":
    sys.exit(main())
