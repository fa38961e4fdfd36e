#!/usr/bin/env python3
"""Whether mutants.py finds each kind of stale entry, and whether a mutant stands in its copy as its entry says."""
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "mutants"))
# pylint: disable=wrong-import-position
import entries

SOURCE = "Sources/Wing/Room/Ring.swift"
TEXT = "func take() {\n    guard count <= limit, count > 0 else { return }\n    if a { b() }\n    use()\n    if a { b() }\n}\n"
ENTRY = f"""A1-one: A1
    in     {SOURCE}
    line   guard count <= limit, count > 0 else {{ return }}
    from   count <= limit
    to     true
    tests  A1_lies RingTests

A1-two: A1
    in     {SOURCE}
    line   guard count <= limit, count > 0 else {{ return }}
    instead
    tests  RingTests.Ring

A1-three: -
    in     {SOURCE}
    after  use()
    line   if a {{ b() }}
    instead c()
    tests  A1_
"""
RIGHT = {
    SOURCE: TEXT,
    "Docs/attacks.md": "| row | tests |\n|---|---|\n| A1 | `A1_lies` |\n",
    "Tests/Wing/RingTests/RingTests.swift": "struct RingTests {\n    @Test func A1_lies() {}\n}\n",
    "tools/mutants/catalogue/ring.txt": ENTRY,
}
CATALOGUE = "tools/mutants/catalogue/ring.txt"
# What is broken: the file, the words, what they become, and what is said of it.
BREAKS = {
    "a line that is gone": (SOURCE, "guard count", "guard size", "found 0 times"),
    "a line twice": (SOURCE, "    use()\n", "    use()\n    guard count <= limit, count > 0 else { return }\n", "found 2 times"),
    "a place before it that is gone": (SOURCE, "use()", "used()", "found 0 times"),
    "a place before it twice": (SOURCE, "use()\n", "use()\n    use()\n", "found 2 times"),
    "no line behind that place": (SOURCE, "use()\n    if a { b() }\n", "use()\n", "found 0 times"),
    "an expression that is not in its line": (CATALOGUE, "from   count <= limit", "from   count <= most", "not once in its line"),
    "an expression that is there twice": (CATALOGUE, "from   count <= limit", "from   count", "not once in its line"),
    "a file that is gone": (CATALOGUE, f"in     {SOURCE}\n    line   guard count <= limit, count > 0 else {{ return }}\n    from", "in     Sources/Gone.swift\n    line   guard count\n    from", "no such file"),
    "a row that there is not": (CATALOGUE, "A1-one: A1", "A1-one: A7", "has no row A7"),
    "a test that there is not": (CATALOGUE, "A1_lies RingTests", "A1_lied RingTests", "no test has such a name: A1_lied"),
    "a name that is used twice": (CATALOGUE, "A1-two", "A1-one", "the same as A1-one"),
    "a field that is missing": (CATALOGUE, "    to     true\n", "", "needs in, line and tests"),
    "a field that there is not": (CATALOGUE, "    to     true\n", "    too    true\n", "neither `ID: ROWS` nor"),
    "a field twice": (CATALOGUE, "    to     true\n", "    to     true\n    to     false\n", "has to twice"),
    "no tests": (CATALOGUE, "    tests  A1_lies RingTests\n", "    tests\n", "names no tests"),
    "two that overlap": (CATALOGUE, "    instead\n    tests  RingTests.Ring", "    from   limit, count > 0\n    to     true\n    tests  RingTests.Ring", "overlaps with"),
}


def complaints(files: dict[str, str]) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        run = subprocess.run([sys.executable, str(HERE / "mutants.py"), root], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr


def standing() -> str:
    """What the entries above make of their source; as it must be."""
    mutants = entries.parse(ENTRY, CATALOGUE)
    one, two, three = (mutant.number for mutant in mutants)
    wanted = TEXT.replace(
        "    guard count <= limit, count > 0 else { return }",
        f"    if _mutant({two}) {{  }} else {{ guard (_mutant({one}) ? (true) : (count <= limit)), count > 0 else {{ return }} }}")
    wanted = wanted.replace(
        "    use()\n    if a { b() }", f"    use()\n    if _mutant({three}) {{ c() }} else {{ if a {{ b() }} }}")
    made = entries.put_in(TEXT, mutants, declares=False)
    return "" if made == wanted else f"stands so:\n{made}and not so:\n{wanted}"


def main() -> int:
    failures = [words] if (words := standing()) else []
    status, said = complaints(RIGHT)
    if status != 0:
        failures.append(f"refused, though it is sound: {said}")
    for what, (file, words, change, word) in BREAKS.items():
        if words not in RIGHT[file]:
            failures.append(f"{what}: not in {file}: {words}")
            continue
        status, said = complaints({**RIGHT, file: RIGHT[file].replace(words, change, 1)})
        if status != 1 or word not in said:
            failures.append(f"not found: {what} (status {status}): {said}")
    for failure in failures:
        print(failure)
    if not failures:
        print(f"mutants_trial: each of {len(BREAKS)} mistakes is found")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
