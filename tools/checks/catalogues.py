#!/usr/bin/env python3
"""Holds Docs/attacks.md and Docs/protocol-rules.md against the sources, both ways:

* each row has a number of its own, and names tests that exist or says "none yet";
* each citation leads to a row and has the one form: `attacks.md A15, A16` and `protocol-rules.md 31 to 34` in comments,
  and the same numbers at the beginning of a name: `A15_...` or `rule12_...` (a function), `XS30, XS31: ...` or
  `A15-...` (a string);
* a test with a row's number in its name, or in the comment above it, is named by that row.

A test is a function marked @Test (by its display name if it has one), a scenario of the lab, a fuzz target, or the mutants. Files
are found by what they are and not by where they lie. Another directory than this repository can be given, as
catalogues_trial.py does to see each kind of mistake found.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "..")
SEARCHED = ("Sources", "Tests", "Examples", "Packaging", "tools", ".ci", "Docs")
SOURCE_ENDINGS = (".swift", ".c", ".h", ".py", ".pml")
# These speak of the forms.
NOT_SEARCHED = ("catalogues.py", "catalogues_trial.py")

# What looks like the number of a row, whether there is one or not.
CODE = r"(?:A|B|C|D|E|GT|EV|XS|PM|TS|VQ|VU|VN|NS|PG|CL|L|M)\d{1,2}"
# Between two words of a comment, also across its lines.
GAP = r"(?:[ \t]+|[ \t]*\n[ \t]*(?://+|#|\*)?[ \t]*)"
JOIN = rf"(?:,{GAP}|{GAP}and{GAP}|{GAP}to{GAP})"
NAME = re.compile(rf'(?:\bfunc `?|")((?:{CODE}(?:_(?=[A-Za-z])|, |: |-))+|rule\d+_)')
STRAYS = (
    (r"\bXSA-\d+", "an advisory is cited by its row"),
    (r"\bCVE-\d+", "an advisory is cited by its row"),
    (r"\bpv-protocols\b", "is no page"),
    (r"\(items? \d+", "a rule is cited as protocol-rules.md N"),
)


class Page:
    """One of the two pages: its rows and their tests."""

    def __init__(self, name, number):
        self.name, self.path, self.number = name, f"Docs/{name}", number
        mention = re.escape(name)
        self.citation = re.compile(rf"{mention}(?:\]\([^)]*\))?{GAP}({number}\b(?:{JOIN}{number}\b)*)")
        self.mention = re.compile(rf"(?<!Docs/)\b{mention}")
        self.rows = {}

    def read(self, names_of_tests):
        text, offset = texts.get(self.path, ""), 0
        if not text:
            problems.append(f"{self.path}: no such page")
        for line in text.splitlines(keepends=True):
            if line.startswith("|") and not re.match(r"\|[-|]+\|$|\| *(?:row|rule) *\|", line.rstrip()):
                self.read_row(line.strip(), text, offset, names_of_tests)
            offset += len(line)

    def read_row(self, line, text, offset, names_of_tests):
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        number, tests = cells[0], cells[-1]
        if len(cells) < 3 or not re.fullmatch(self.number, number) or not all(cells):
            return problem(self.path, text, offset, f"a row needs a number, words and tests: {line[:60]}")
        if number in self.rows:
            problem(self.path, text, offset, f"{number} twice")
        named = re.findall(r"`([^`]+)`", tests)
        if tests != "none yet" and (not named or re.sub(r"`[^`]+`", "", tests).strip(", ")):
            problem(self.path, text, offset, f'{number} needs tests in backquotes, or "none yet": {tests[:60]}')
        for name in named:
            if name not in names_of_tests:
                problem(self.path, text, offset, f"{number}: no such test: {name}")
        self.rows.setdefault(number, []).extend(named)


def problem(path, text, offset, words):
    problems.append(f"{path}:{text.count(chr(10), 0, offset) + 1}: {words}")


def files():
    """Paths, relative to the root, of what may cite a row."""
    yield from (name for name in sorted(os.listdir(ROOT)) if name.endswith(".md") or name in ("Makefile", "Package.swift"))
    for folder in SEARCHED:
        for place, folders, names in os.walk(os.path.join(ROOT, folder)):
            folders[:] = sorted(one for one in folders if one not in (".build", "out"))
            yield from (os.path.relpath(os.path.join(place, name), ROOT) for name in sorted(names))


def read(path):
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return file.read()
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


def numbers(words):
    """The rows that a list names, those within its ranges, too."""
    found, last, ranged = [], 0, False
    for word in re.findall(r"[A-Z]*\d+|\bto\b", words):
        if word == "to":
            ranged = True
            continue
        prefix, number = re.fullmatch(r"([A-Z]*)(\d+)", word).groups()
        found += [f"{prefix}{each}" for each in range(last + 1 if ranged else int(number), int(number) + 1)]
        last, ranged = int(number), False
    return found


def carried(name):
    """The page that a name's numbers are of, and the numbers that it begins with."""
    if rule := re.match(r"rule(\d+)_", name):
        return rules, [rule.group(1)]
    head = re.match(rf"(?:{CODE}_(?=[A-Za-z]))+|(?:{CODE}, )*{CODE}(?=: |-)", name)
    return attacks, re.findall(CODE, head.group(0)) if head else []


def tests_of(text):
    """Each test of a Swift file: its name, where the comment above it begins, and where its mark does."""
    for mark in re.finditer(r"^[ \t]*@Test\b", text, re.MULTILINE):
        function = re.compile(r"\bfunc (`[^`]+`|\w+)").search(text, mark.end())
        display = re.compile(r'\s*\(\s*"((?:[^"\\]|\\.)*)"').match(text, mark.end())
        above = mark.start()
        while above > 0:
            line = text.rfind("\n", 0, above - 1) + 1
            if not text[line:above].lstrip().startswith(("///", "@")):
                break
            above = line
        if function:
            yield display.group(1) if display else function.group(1).strip("`"), above, mark.start()


def in_comment(text, offset):
    line = text[text.rfind("\n", 0, offset) + 1:offset + 1]
    return line.lstrip().startswith(("//", "#", "*", "/*", '"""'))


def check_citations(path, text):
    """Each citation leads to a row, and nothing cites in another form."""
    rest = text
    for page in (attacks, rules):
        for found in page.citation.finditer(text):
            for number in numbers(found.group(1)):
                if number not in page.rows:
                    problem(path, text, found.start(), f"{page.name} has no row {number}")
            # As long as it was, so that every place stays the same.
            blank = re.sub(r"[^\n]", " ", found.group(0))
            rest = rest[:found.start()] + blank + rest[found.end():]
        # A page may link to these as it likes.
        for found in page.mention.finditer(rest) if not path.endswith(".md") else ():
            problem(path, text, found.start(), f"{page.name} without a row (a whole page is Docs/{page.name})")
    # What the repository says of itself (a changelog, how to report) may name an advisory.
    for stray, words in STRAYS if "/" in path or not path.endswith(".md") else ():
        for found in re.finditer(stray, rest):
            problem(path, text, found.start(), f"{found.group(0)}: {words}")
    if path.endswith(SOURCE_ENDINGS):
        check_names(path, text)
        for found in re.finditer(rf"\b{CODE}\b", rest):
            if found.group(0) in attacks.rows and in_comment(rest, found.start()):
                problem(path, text, found.start(), f"{found.group(0)} is cited as attacks.md {found.group(0)}")


def check_names(path, text):
    """Each number that a name begins with is a row's."""
    for found in NAME.finditer(text):
        page, given = carried(found.group(1) + "x")
        for number in given:
            if number not in page.rows:
                problem(path, text, found.start(), f"a name begins with {number}, which {page.name} does not have")


def check_test(path, name, above, mark):
    """The rows whose numbers a test carries name it."""
    text = texts[path]
    page, given = carried(name)
    wanted = [(page, number) for number in given]
    for page in (attacks, rules):
        for found in page.citation.finditer(text, above, mark):
            wanted += [(page, number) for number in numbers(found.group(1))]
    for page, number in wanted:
        if number in page.rows and name not in page.rows[number]:
            problem(path, text, mark, f"{page.name}, row {number}, does not name this test: {name}")


problems = []
texts = {path: text for path in files() if os.path.basename(path) not in NOT_SEARCHED and (text := read(path))}
attacks, rules = Page("attacks.md", CODE), Page("protocol-rules.md", r"\d+")
tests = [(path, *test) for path, text in texts.items() if path.endswith(".swift") for test in tests_of(text)]
names = {name for _, name, _, _ in tests}
names |= {scenario.group(1) for path in texts if (scenario := re.search(r"/scenarios/([^/]+)\.sh$", path))}
names |= {target.group(1) for path in texts if (target := re.search(r"/(Fuzz[A-Z]\w+)/\w+\.swift$", path))}
# Breaks each defence, and sees the other tests fail.
names |= {"tools/mutants" for path in texts if path.startswith("tools/mutants/catalogue/")}
for page in (attacks, rules):
    page.read(names)
for path, text in texts.items():
    if path not in (attacks.path, rules.path):
        check_citations(path, text)
for test in tests:
    check_test(*test)
if not problems:
    print(f"docs: {len(attacks.rows)} attacks and {len(rules.rows)} rules, {len(tests)} tests and all citations agree")
print("\n".join(problems), end="\n" if problems else "")
sys.exit(1 if problems else 0)
