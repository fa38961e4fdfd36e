#!/usr/bin/env python3
"""Holds the sources to one rule: whatever is thrown says itself, in words.

tools/checks/errors.py [FOLDER]: looks at FOLDER/Sources (FOLDER: this checkout) and says, one line each,
  - a type that is an Error and no CustomStringConvertible: printed, it would be the name of a Swift case with its parentheses;
  - a type of ours that an error carries and that is none either, for the error's words are made of its words;
  - a call whose errors are Foundation's, which do not say themselves in words: `try FileManager…`, `try Data(contentsOf:)` and their like,
    unless it is `try?`.
A scan of declarations, by their names: whether the words are good is for who reads them.
"""
import pathlib
import re
import sys

NAMES = r"\w+(?:\.\w+)*"
ATTRIBUTES = r"(?:@[\w.]+(?:\([^)]*\))?\s+)*(?:[a-z]+(?:\([\w ]+\))?\s+)*?"
DECLARATION = re.compile(
    rf"^([ \t]*){ATTRIBUTES}(enum|struct|class|actor|protocol|extension)\s+({NAMES})(?:<[^>{{]*>)?\s*(?::\s*([^{{]*?))?\s*(?:\bwhere\b[^{{]*)?\{{",
    re.M)
CASE = re.compile(r"^[ \t]*(?:indirect\s+)?case\s+(\w+.*)$", re.M)
STORED = re.compile(rf"^[ \t]*{ATTRIBUTES}(?:let|var)\s+\w+\s*:\s*([^={{\n]+?)\s*(?:=[^\n]*)?$", re.M)
FOREIGN = re.compile(r"\btry\s+(?:FileManager\b|(?:Foundation\.)?(?:Data|String|URL|NSString)\(\s*contentsOf|JSON(?:De|En)coder|PropertyList)")
STRING = re.compile(r'"""[\s\S]*?"""|"(?:[^"\\\n]|\\.)*"')
COMMENT = re.compile(r"//[^\n]*")


class Type:
    """A type by its name, with what all of its declaration and extensions say."""

    def __init__(self):
        self.file, self.place, self.kind, self.supertypes, self.body = None, None, None, set(), ""

    def conforms(self, protocol: str, types: dict[str, list["Type"]]) -> bool:
        """By itself, or by a protocol of ours that it conforms to."""
        return protocol in self.supertypes or any(
            other.kind == "protocol" and other.conforms(protocol, types) for name in self.supertypes for other in types.get(name, []))


def without_words(text: str) -> str:
    """The code alone, every line where it was."""
    text = COMMENT.sub(lambda found: " " * len(found[0]), text)
    return STRING.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def body_at(text: str, start: int) -> str:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def own_level(body: str) -> str:
    """A body without what is between the braces within it."""
    kept, depth = [], 0
    for letter in body:
        depth -= letter == "}"
        if depth == 0 or letter == "\n":
            kept.append(letter)
        depth += letter == "{"
    return "".join(kept)


def read(files: dict[str, str]) -> dict[str, list[Type]]:
    """Types by their last names: those of one name are told apart by where they stand only, so each has all of them."""
    types: dict[str, list[Type]] = {}
    extensions = []
    for name, text in files.items():
        for found in DECLARATION.finditer(text):
            supertypes = set(re.findall(r"[A-Z]\w*", found[4] or ""))
            if found[2] == "extension":
                extensions.append((found[3].split(".")[-1], supertypes))
                continue
            one = Type()
            one.file = name
            one.place = f"Sources/{name}:{text.count(chr(10), 0, found.end()) + 1}"
            one.kind, one.supertypes, one.body = found[2], supertypes, own_level(body_at(text, found.end()))
            types.setdefault(found[3].split(".")[-1], []).append(one)
    for name, supertypes in extensions:
        for one in types.get(name, []):
            one.supertypes |= supertypes
    return types


def carried(one: Type) -> set[tuple[str, str]]:
    """Names of types that values of `one` are made of, each with that of the type around it, if it is given."""
    texts = re.findall(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", "\n".join(CASE.findall(one.body))) if one.kind == "enum" else STORED.findall(one.body)
    return {
        ((around or "").rstrip("."), word)
        for text in texts for around, word in re.findall(r"(?<![\w.])(?:\w+\.)*?([A-Z]\w*\.)?([A-Z]\w*)(?![\w.])", text)
    }


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    sources = root / "Sources"
    files = {f.relative_to(sources).as_posix(): without_words(f.read_text(encoding="utf-8")) for f in sorted(sources.rglob("*.swift"))}
    if not files:
        print(f"errors: {sources}: no sources found", file=sys.stderr)
        return 2
    types = read(files)
    complaints, count = [], 0
    for name, several in types.items():
        for one in several:
            if one.kind == "protocol" or not one.conforms("Error", types):
                continue
            count += 1
            if not one.conforms("CustomStringConvertible", types):
                complaints.append(f"{one.place}: {name} is an Error and does not say itself: it needs CustomStringConvertible")
            for around, part in sorted(carried(one)):
                # Of several types with one name the one in the same file is meant, or in that of the type around it.
                places = {one.file} | {other.file for other in types.get(around, [])}
                meant = [other for other in types.get(part, []) if other.file in places] or types.get(part, [])
                mute = [other for other in meant if other.kind != "protocol" and not other.conforms("CustomStringConvertible", types)]
                if mute:
                    complaints.append(f"{one.place}: {name} carries a {part}, which does not say itself ({mute[0].place})")
    for name, text in files.items():
        for found in FOREIGN.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            complaints.append(f"Sources/{name}:{line}: {' '.join(found[0].split())}: Foundation's errors do not say themselves in words")
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"errors: each of {count} error types says itself, and what it carries")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
