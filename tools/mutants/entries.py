"""The catalogue of mutants: what an entry says, and how a source looks with its mutants put in.

An entry is a line `ID: ROWS` and, indented below it, a field a line:

    in       the file, from the root of the repository
    line     the line that is changed, without its indentation; found exactly once in the file
    from, to an expression of that line, found once in it, and what stands in its place; or
    instead  the statement that stands in the whole line's place (nothing, where nothing follows the word)
    tests    regular expressions of tests (as `swift test --filter` takes them), of which one must fail
    after    a line before it, found once in the file: then `line` is the first such line behind that one

ROWS are rows of Docs/attacks.md, or `-` for a line that no row is about. Lines that begin with # are comments.
"""
import dataclasses
import pathlib
import re
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "tools/mutants/catalogue"
FIELDS = ("in", "after", "line", "from", "to", "instead", "tests")
# Declared once in each module that has mutants; inlinable functions may use it, too.
DECLARATION = '\n@_silgen_name("causeway_mutant") @usableFromInline internal func _mutant(_ number: Int32) -> Bool\n'
SWITCH = """// Which mutant is on: the one whose number is in the environment. Bound before main, so that no thread sees it change.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static int32_t chosen = -1;

__attribute__((constructor)) static void choose(void) {
    const char *number = getenv("CAUSEWAY_MUTANT");
    if (number) chosen = (int32_t)strtol(number, NULL, 10);
}

bool causeway_mutant(int32_t number);
bool causeway_mutant(int32_t number) { return number == chosen; }
"""


class Stale(Exception):
    """An entry that cannot be put in, in words."""


@dataclasses.dataclass
class Mutant:
    """One entry of the catalogue."""

    id: str
    rows: list[str]
    place: str
    fields: dict[str, str]

    @property
    def number(self) -> int:
        """Stays what it is when the catalogue grows, so that only changed files are built again."""
        return zlib.crc32(self.id.encode()) & 0x7FFFFFFF

    @property
    def file(self) -> str:
        return self.fields["in"]

    @property
    def filters(self) -> list[str]:
        return self.fields["tests"].split()

    def says(self) -> str:
        """What is changed, in one line."""
        if "instead" in self.fields:
            return f"{self.fields['line']}  ->  {self.fields['instead'] or '(nothing)'}"
        return f"{self.fields['from']}  ->  {self.fields['to']}"

    def switch(self, original: str) -> str:
        """What stands for `original` in the copy."""
        if "from" in self.fields:
            return f"(_mutant({self.number}) ? ({self.fields['to']}) : ({original}))"
        return f"if _mutant({self.number}) {{ {self.fields['instead']} }} else {{ {original} }}"

    def line_in(self, lines: list[str]) -> int:
        """The index of this mutant's line in its file's."""
        begin = 0
        if after := self.fields.get("after"):
            begin = only([index for index, line in enumerate(lines) if line.strip() == after], self, after) + 1
            found = [index for index in range(begin, len(lines)) if lines[index].strip() == self.fields["line"]][:1]
        else:
            found = [index for index, line in enumerate(lines) if line.strip() == self.fields["line"]]
        index = only(found, self, self.fields["line"])
        if "from" in self.fields and lines[index].count(self.fields["from"]) != 1:
            raise Stale(f"{self.place}: {self.id}: not once in its line: {self.fields['from']}")
        return index


@dataclasses.dataclass
class Site:
    """Where in a line a mutant is: columns."""

    first: int
    end: int
    mutant: Mutant


def only(found: list[int], mutant: Mutant, text: str) -> int:
    if len(found) != 1:
        raise Stale(f"{mutant.place}: {mutant.id}: found {len(found)} times in {mutant.file}, not once: {text}")
    return found[0]


def parse(text: str, name: str) -> list[Mutant]:
    """The entries of one file of the catalogue; raises Stale at the first line that is none."""
    found: list[Mutant] = []
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if head := re.fullmatch(r"([\w.-]+): (-|[A-Z]+\d+(?:, [A-Z]+\d+)*)", line):
            found.append(Mutant(head.group(1), [] if head.group(2) == "-" else head.group(2).split(", "), place, {}))
        elif (field := re.fullmatch(r" +(\w+)(?: +(.*))?", line)) and found and field.group(1) in FIELDS:
            if field.group(1) in found[-1].fields:
                raise Stale(f"{place}: {found[-1].id} has {field.group(1)} twice")
            found[-1].fields[field.group(1)] = (field.group(2) or "").rstrip()
        else:
            raise Stale(f"{place}: neither `ID: ROWS` nor one of the fields {', '.join(FIELDS)}: {line}")
    for mutant in found:
        complete(mutant)
    return found


def complete(mutant: Mutant) -> None:
    """Raises Stale if a field is missing, or there is one too many."""
    has = set(mutant.fields) - {"after"}
    if has not in ({"in", "line", "from", "to", "tests"}, {"in", "line", "instead", "tests"}):
        raise Stale(f"{mutant.place}: {mutant.id} needs in, line and tests, and either from and to, or instead; has {sorted(has)}")
    if not mutant.filters:
        raise Stale(f"{mutant.place}: {mutant.id} names no tests")


def catalogue(root: pathlib.Path = ROOT) -> list[Mutant]:
    """All entries, in the order of the files' names."""
    mutants, seen, numbers = [], {}, {}
    for path in sorted((root / "tools/mutants/catalogue").glob("*.txt")):
        mutants += parse(path.read_text(), str(path.relative_to(root)))
    for mutant in mutants:
        for table, key in ((seen, mutant.id), (numbers, mutant.number)):
            if key in table:
                raise Stale(f"{mutant.place}: {mutant.id}: the same as {table[key].id} at {table[key].place}")
            table[key] = mutant
    return mutants


def sites(text: str, mutants: list[Mutant]) -> tuple[dict[int, list[Site]], list[str]]:
    """Where the mutants of one file are, by their lines, the outer ones first; and what is wrong with others."""
    lines, found, wrong = text.split("\n"), {}, []
    for mutant in mutants:
        try:
            index = mutant.line_in(lines)
        except Stale as stale:
            wrong.append(str(stale))
            continue
        part = mutant.fields.get("from", mutant.fields["line"])
        column = lines[index].index(part)
        found.setdefault(index, []).append(Site(column, column + len(part), mutant))
    for some in found.values():
        some.sort(key=lambda site: (site.first, -site.end))
        for outer in some:
            for inner in some:
                if outer.first < inner.first < outer.end < inner.end:
                    wrong.append(f"{inner.mutant.place}: {inner.mutant.id} overlaps with {outer.mutant.id} at {outer.mutant.place}")
    return found, wrong


def stale(root: pathlib.Path, mutants: list[Mutant]) -> list[str]:
    """What is wrong with the entries as the sources below `root` are now."""
    wrong: list[str] = []
    files: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        files.setdefault(mutant.file, []).append(mutant)
    for file, some in files.items():
        if (root / file).is_file():
            wrong += sites((root / file).read_text(encoding="utf-8"), some)[1]
        else:
            wrong += [f"{mutant.place}: {mutant.id}: no such file: {file}" for mutant in some]
    return wrong


def switched(line: str, begin: int, end: int, some: list[Site]) -> str:
    """A part of a line with its mutants; one within another is in what stands there while the other is off."""
    text = ""
    while some:
        site = some[0]
        inner = [one for one in some[1:] if one.end <= site.end]
        some = [one for one in some[1:] if one.first >= site.end]
        text += line[begin:site.first] + site.mutant.switch(switched(line, site.first, site.end, inner))
        begin = site.end
    return text + line[begin:end]


def put_in(text: str, mutants: list[Mutant], declares: bool) -> str:
    """A file's text with these mutants of it, each behind its switch; no line changes its number."""
    lines = text.split("\n")
    for index, some in sites(text, mutants)[0].items():
        lines[index] = switched(lines[index], 0, len(lines[index]), some)
    return "\n".join(lines) + (DECLARATION if declares else "")


def module(file: str) -> str:
    """The folder of the module that a source belongs to: the one that Package.swift names, two or three below Sources."""
    parts = file.split("/")
    depth = 4 if parts[1] == "Drivers" else 3
    return "/".join(parts[:depth])
