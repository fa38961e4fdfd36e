#!/usr/bin/env python3
"""Sees catalogues.py find each kind of mistake: a small repository that is right has one thing broken after another."""
import os
import subprocess
import sys
import tempfile

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "catalogues.py")
ATTACKS, RULES = "Docs/attacks.md", "Docs/protocol-rules.md"
SOURCE, TESTS = "Sources/a/b/Ring.swift", "Tests/a/Tests.swift"
RIGHT = {
    ATTACKS: "| row | what is done | known as | outcome | tests |\n|---|---|---|---|---|\n"
    "| A1 | lies | XSA-1 | an error | `A1_lies` |\n| A2 | lies twice | – | an error | `A2, XS1: a lie`, `commented` |\n"
    "| A3 | lies more | – | an error | `08-lies`, `FuzzLies` |\n| XS1 | lies | – | an error | `A2, XS1: a lie` |\n"
    "| B1 | waits | – | nothing | none yet |\n",
    RULES: "| rule | what | tests |\n|---|---|---|\n| 1 | do it once | `rule1_once` |\n| 2 | do it | none yet |\n",
    "Docs/other.md": "See [attacks.md](attacks.md) A1, and [the rules](protocol-rules.md).\n",
    SOURCE: "// As in attacks.md A1 to A3,\n// B1 and in protocol-rules.md 1 and 2; all of it: Docs/attacks.md, section A.\nlet page = 1\n",
    TESTS: "struct Tests {\n    @Test func A1_lies() {}\n    @Test(\"A2, XS1: a lie\")\n    func lie() {}\n"
    "    /// attacks.md A2: both.\n    @Test(arguments: 0..<2)\n    func commented() {}\n    @Test func rule1_once() {}\n}\n",
    "tools/lab/scenarios/08-lies.sh": "true\n",
    "tools/fuzz/Sources/FuzzLies/Main.swift": "let lies = [\"A1: a lie\"]\n",
}
# What is broken: the file, the words, what they become, and what the check says of it.
BREAKS = {
    "a test that is not there": (ATTACKS, "`A1_lies`", "`A1_lied`", "no such test: A1_lied"),
    "a test that was renamed": (TESTS, "func commented", "func comment", "no such test: commented"),
    "a scenario that is not there": (ATTACKS, "`08-lies`", "`09-lies`", "no such test: 09-lies"),
    "neither tests nor none yet": (ATTACKS, "| none yet |", "| later |", 'or "none yet"'),
    "nothing about tests": (ATTACKS, "| none yet |", "| |", "a row needs"),
    "a row twice": (ATTACKS, "| B1 |", "| A1 |", "A1 twice"),
    "a rule twice": (RULES, "| 2 |", "| 1 |", "1 twice"),
    "a row without a number": (RULES, "| 2 |", "| two |", "a row needs"),
    "a row gone that a comment cites": (ATTACKS, "| B1 |", "| B2 |", "attacks.md has no row B1"),
    "a row gone within a range": (ATTACKS, "| A3 |", "| A4 |", "attacks.md has no row A3"),
    "a rule gone that a comment cites": (RULES, "| 2 |", "| 3 |", "protocol-rules.md has no row 2"),
    "a row gone that a page cites": ("Docs/other.md", ") A1", ") A7", "attacks.md has no row A7"),
    "a name with the number of no row": (TESTS, "A1_lies", "A9_lies", "a name begins with A9"),
    "a string with the number of no row": ("tools/fuzz/Sources/FuzzLies/Main.swift", "A1", "L9", "a name begins with L9"),
    "a rule's name with the number of none": (TESTS, "rule1_", "rule7_", "a name begins with 7"),
    "a test that its row does not name": (ATTACKS, "`A1_lies`", "`commented`", "row A1, does not name this test: A1_lies"),
    "a display name that one row lacks": (ATTACKS, "error | `A2, XS1: a lie` |", "error | none yet |", "row XS1, does not name"),
    "a comment's test that its row lacks": (ATTACKS, ", `commented`", "", "row A2, does not name this test: commented"),
    "a rule's test that it does not name": (RULES, "`rule1_once`", "none yet", "row 1, does not name this test: rule1_once"),
    "an advisory by its number": (SOURCE, "attacks.md A1 to A3", "XSA-155", "XSA-155: an advisory"),
    "a vulnerability by its number": (SOURCE, "attacks.md A1 to A3", "CVE-2015-8550", "CVE-2015: an advisory"),
    "a page that is not here": (SOURCE, "protocol-rules.md 1 and 2", "pv-protocols 2.3", "pv-protocols: is no page"),
    "a rule without its page": (SOURCE, "in protocol-rules.md 1 and 2", "(item 2)", "(item 2: a rule is cited"),
    "a row without its page": (SOURCE, "attacks.md A1 to A3,\n// B1", "(B1)", "B1 is cited as attacks.md B1"),
    "a page without a row": (SOURCE, "Docs/attacks.md, section", "attacks.md, section", "without a row"),
    "a page that is gone": (RULES, RIGHT[RULES], "", "no such page"),
}


def run(files):
    """What the check says of a repository with these files, and whether it is content."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


status, said = run(RIGHT)
failed = [] if status == 0 else [f"what is right: {said}"]
for title, (path, words, others, expected) in BREAKS.items():
    assert words in RIGHT[path], title
    status, said = run({**RIGHT, path: RIGHT[path].replace(words, others, 1)})
    if status != 1 or expected not in said:
        failed.append(f"{title}: it ended with {status} and said: {said}")
print("\n".join(failed) or f"catalogues_trial: each of {len(BREAKS)} mistakes is found")
sys.exit(1 if failed else 0)
