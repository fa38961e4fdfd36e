#!/usr/bin/env python3
"""Whether pages.py finds what it is for, and only that: sound pages, and each mistake in them, one at a time."""
import pathlib
import subprocess
import sys
import tempfile

from trial import report

CHECK = pathlib.Path(__file__).with_name("pages.py")
# Stands in for the command: prints its words, log lines on stderr, and fails or goes on where it is told to.
COMMAND = """#!/bin/bash
echo "causeway: blkback: serving domain 0's vbd" >&2
case "$1" in
fail) echo "causeway: it failed" >&2; exit 1 ;;
serve) exec python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX); s.bind("s.sock"); s.listen(); time.sleep(60)' ;;
wait) trap "exit ${2:-0}" INT; echo ready; while :; do read -t 0.05 <> <(:); done ;;
*) echo "$*" ;;
esac
"""
FILE = "first\nsecond\nthird\n"
SOUND = {
    "what is shown is printed": "    $ causeway a\n    a\n    $ causeway b\n    b\n",
    "in a fence, within a list": "1. a\n   ```\n   $ causeway a\n   a\n   ```\n",
    "a command of several lines": "    $ causeway 'a\n      b'\n    a\n      b\n    $ causeway \\\n          c\n    c\n",
    "nothing is shown": "    $ causeway a\n    $ causeway b\n",
    "variables and files live on": "    $ a=1; echo x > f\n    $ causeway $a; cat f\n    1\n    x\n",
    "what varies by its form": "    $ causeway /tmp/causeway.$(echo a1B2c3)/x\n    /tmp/causeway.ZZZZZZ/x\n",
    "the scratch directory": "    $ causeway $PWD; causeway /tmp/rd\n    /tmp/rd\n    /tmp/rd\n",
    "any numbers": "<!-- numbers vary -->\n\n    $ causeway a 12 3.5\n    a   7 9\n",
    "lines left out": "    $ printf 'a\\nb\\nc\\nd\\n'\n    a\n    …\n    d\n    $ printf 'a\\nb\\n'\n    a\n    …\n",
    "an error that is shown": "    $ causeway fail\n    causeway: it failed\n",
    "a log line that is shown": "    $ causeway a\n    causeway: blkback: serving domain 0's vbd\n    a\n",
    "a server that is waited for": "    $ causeway serve &\n    $ test -S s.sock && causeway up\n    up\n",
    "until interrupted": "<!-- until interrupted -->\n\n    $ causeway wait\n    ready\n",
    "commands that are run": "<!-- runs -->\n\n    causeway a      # a remark\n    true\n",
    "printed by": "<!-- printed by: causeway a b -->\n\n    a b\n",
    "not run": "<!-- not run: it takes a day -->\n\n    $ false\n    $ exit 3\n",
    "a piece": "<!-- piece of file -->\n\n    first\n    …\n    third\n",
    "text and pictures": "<!-- text -->\n\n    a b\n\n```mermaid\na\n```\n",
}
# What is wrong, the page, and what is said of it.
MISTAKES = [
    ("another line", "    $ causeway a\n    b\n", "page.md:1: causeway a\n    printed: a\n    shown:   b"),
    ("a line too few", "    $ causeway a\n    a\n    b\n", "not printed: b"),
    ("a line too many", "    $ printf 'a\\nb\\n'\n    a\n", "printed and not shown: b"),
    ("an error that is not shown", "\n    $ causeway fail\n    a\n", "page.md:2: causeway fail: status 1"),
    ("a failure where nothing is shown", "    $ false\n", "status 1"),
    ("output where none is shown among others", "    $ causeway a\n    $ causeway b\n    b\n", "printed and not shown: a"),
    ("a server that ends", "    $ causeway b &\n", "it ended"),
    ("what is left out does not go on", "    $ printf 'a\\nb\\n'\n    a\n    …\n    d\n", "not printed: d"),
    ("the next block", "    $ causeway a\n    a\n\ntext\n\n    $ causeway c\n    d\n", "page.md:6"),
    ("one that ends by itself with an error", "<!-- until interrupted -->\n\n    $ causeway fail\n    ready\n", "shown:   ready"),
    ("one that takes an interruption ill", "<!-- until interrupted -->\n\n    $ causeway wait 3\n    ready\n", "it ended with status 3"),
    ("no kind", "    a b\n", "no comment that says what it is"),
    ("a kind that is none", "<!-- rnus -->\n\n    a b\n", "is no kind of block"),
    ("a kind of another block", "<!-- text -->\n\nwords\n\n    a b\n", "no comment that says what it is"),
    ("code without a kind", "```swift\na\n```\n", "<!-- piece of FILE --> or <!-- text -->?"),
    ("a piece that is not there", "<!-- piece of file -->\n\n    first\n    fourth\n", "does not have, in this order: fourth"),
    ("a piece in another order", "<!-- piece of file -->\n\n    second\n    first\n", "does not have, in this order: first"),
    ("a piece of no file", "<!-- piece of none -->\n\n    first\n", "none: no such file"),
]


def main() -> int:
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        command = root / "command"
        command.write_text(COMMAND)
        command.chmod(0o755)
        (root / "file").write_text(FILE)

        def said(text: str) -> tuple[int, str]:
            (root / "page.md").write_text(text)
            run = subprocess.run([sys.executable, str(CHECK), "--root", folder, "--command", str(command), "page.md"],
                                 capture_output=True, text=True, check=False)
            return run.returncode, run.stdout + run.stderr

        for what, text in SOUND.items():
            status, words = said(text)
            if status != 0:
                failures.append(f"{what}: nothing is wrong, and it says: {words}")
        for what, text, wanted in MISTAKES:
            status, words = said(text)
            if status != 1 or wanted not in words or len(words.split("page.md:")) != 2:
                failures.append(f"{what}: {wanted} expected, status {status}: {words}")
    return report(failures, f"pages_trial: each of {len(MISTAKES)} mistakes is found, and nothing else")


if __name__ == "__main__":
    sys.exit(main())
