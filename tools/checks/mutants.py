#!/usr/bin/env python3
"""Holds the catalogue of mutants (tools/mutants/catalogue) against the sources: each entry's line is there once, its rows are rows of
Docs/attacks.md, and its tests look like tests of ours. Builds nothing: whether a mutant is caught is for tools/mutants/run to say.

Another directory than this repository can be given, as mutants_trial.py does.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mutants"))
# pylint: disable=wrong-import-position
sys.dont_write_bytecode = True
import entries


def names(root: pathlib.Path) -> str:
    """`Module.Suite/function()` as far as it can be told without building: each file's module, and its types and functions."""
    found = []
    for path in sorted((root / "Tests").rglob("*.swift")):
        suite = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            # A suite begins where a line does; what is within it may be a type, too.
            if not line.startswith((" ", "/")) and (kind := re.search(r"\b(?:struct|class|extension) (\w+)", line)):
                suite = kind.group(1)
            elif function := re.search(r"\bfunc `?(\w+)", line):
                found.append(f"{path.parent.name}.{suite}/{function.group(1)}()")
    return "\n".join(found)


def main() -> int:
    root = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else entries.ROOT
    try:
        mutants = entries.catalogue(root)
    except entries.Stale as stale:
        print(f"mutants: {stale}")
        return 1
    wrong = entries.stale(root, mutants)
    page = root / "Docs/attacks.md"
    rows = set(re.findall(r"^\| ([A-Z]+\d+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)) if page.is_file() else set()
    tests = names(root)
    known: dict[str, bool] = {}
    for mutant in mutants:
        wrong += [f"{mutant.place}: {mutant.id}: Docs/attacks.md has no row {row}" for row in mutant.rows if row not in rows]
        for each in mutant.filters:
            if each not in known:
                known[each] = re.search(each, tests) is not None
            if not known[each]:
                wrong.append(f"{mutant.place}: {mutant.id}: no test has such a name: {each}")
    for one in wrong:
        print(f"mutants: {one}")
    if not wrong:
        covered = {row for mutant in mutants for row in mutant.rows}
        print(f"mutants: each of {len(mutants)} has its line and its tests; {len(covered)} of {len(rows)} attacks have one")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
