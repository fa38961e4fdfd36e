#!/usr/bin/env python3
"""Holds README.md and Docs/ to what they show: each block of commands is run, and prints what the page says.

tools/checks/pages.py [--root FOLDER] [--command PATH] [PAGE…]
  Without --command every block is only looked at: it must be one of the kinds below, and a piece of a file must be in that file. With it the
  blocks of commands are run, in order, in a scratch directory for each page that stands where the page has /tmp/rd, with PATH as `causeway`.

A block is what is indented by four spaces or stands in a fence. Lines that begin with `$ ` are commands, and what follows them is what they
print, on both streams; a block of commands that shows nothing of what they print promises only that they work. What is not shown and passed over: log
lines of the roles (`causeway: blkback: …`), and what processes print that are left to run (`&`), once they listen. A command that shows a line `causeway: …`
may fail. `…` in a line of its own stands for any lines, and what is different in each run (below) is compared by its form.

What a block is otherwise, a comment says, in the line above it or above the blank line there:
  <!-- runs -->                    commands without `$ `: they are run and must work
  <!-- root -->                    only as root (else the block is passed over)
  <!-- numbers vary -->            every number in it is as good as another, and so is the number of blanks
  <!-- until interrupted -->       its last command is interrupted once it has printed what is shown, and then ends with status 0
  <!-- printed by: COMMAND -->     the block is what COMMAND prints
  <!-- not run: REASON -->         commands, and why they are not run
  <!-- piece of FILE -->           its lines stand in FILE, in this order
  <!-- text -->                    no commands: a form, a file, a picture
Several may be in one comment, with semicolons between them. A fence's own word (```swift, ```c, ```mermaid) is a kind, too: code that is in no file
is tagged `<!-- text -->` no less.
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TAG = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")
KINDS = re.compile(r"runs|root|numbers vary|until interrupted|printed by: .+|not run: .+|piece of \S+|text")
LOG = re.compile(r"causeway: (?:blkback|netback|frontend|netfront|backend|host): ")
# What is different in each run: what is found, and what stands for it.
VARIES = [
    (re.compile(r"causeway\.\w{6}\b"), "causeway.XXXXXX"),
    (re.compile(r"\d+\.\d+ sec \([\d.]+ [KMG]?i?B(?:ytes)?/sec and [\d.]+ ops/sec\)"), "T sec (R/sec)"),
    (re.compile(r"\bprocess \d+\b"), "process N"),
]
SECONDS = 60


class Block:
    def __init__(self, page: str, line: int, lines: list[str], tags: list[str], language: str):
        self.page, self.line, self.lines, self.tags, self.language = page, line, lines, tags, language

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def argument(self, tag: str) -> str | None:
        return next((one[len(tag):].strip() for one in self.tags if one.startswith(tag)), None)

    @property
    def is_transcript(self) -> bool:
        return any(line.startswith("$ ") for line in self.lines)

    @property
    def is_run(self) -> bool:
        return not self.language and "text" not in self.tags and self.argument("not run:") is None and self.argument("piece of") is None


def blocks_of(page: str, text: str) -> list[Block]:
    blocks, lines, at = [], text.split("\n"), 0
    tags: list[str] = []
    while at < len(lines):
        line = lines[at]
        if found := TAG.match(line):
            tags = [tag.strip() for tag in found[1].split(";")]
        elif fence := re.match(r"^(\s*)```(\S*)\s*$", line):
            first = at + 1
            at = first
            while at < len(lines) and lines[at].strip() != "```":
                at += 1
            inside = [one.removeprefix(fence[1]) for one in lines[first:at]]
            blocks.append(Block(page, first + 1, inside, tags, fence[2]))
            tags = []
        elif line.startswith("    ") and line.strip() and (at == 0 or not lines[at - 1].strip() or TAG.match(lines[at - 1])):
            first = at
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            inside = "\n".join(one[4:] for one in lines[first:at]).rstrip().split("\n")
            blocks.append(Block(page, first + 1, inside, tags, ""))
            tags = []
            continue
        elif line.strip():
            tags = []
        at += 1
    return blocks


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """Each command with the lines that it is said to print."""
    if not block.is_transcript:
        return [(line.split("      #")[0].strip(), []) for line in block.lines if line.strip()]
    commands: list[tuple[str, list[str]]] = []
    isopen = False
    for line in block.lines:
        if isopen:
            commands[-1] = (commands[-1][0] + "\n" + line, [])
        elif line.startswith("$ "):
            commands.append((line[2:], []))
        elif commands:
            commands[-1][1].append(line)
            continue
        text = commands[-1][0] if commands else ""
        isopen = text.endswith("\\") or text.count("'") % 2 == 1 or text.count('"') % 2 == 1
    return commands


def like(line: str, scratch: str, vary: bool) -> str:
    line = line.replace(scratch, "/tmp/rd").rstrip()
    for form, name in VARIES:
        line = form.sub(name, line)
    return re.sub(r"\s+", " ", re.sub(r"\d+(?:\.\d+)?", "N", line)).strip() if vary else line


def difference(wanted: list[str], printed: list[str], scratch: str, vary: bool) -> str | None:
    """None where the lines agree; else the first that does not."""
    want = [like(line, scratch, vary) for line in wanted]
    have = [like(line, scratch, vary) for line in printed]
    have = [line for line in have if not LOG.match(line) or line in want]
    while have and not have[-1]:
        have.pop()
    at = 0
    for number, line in enumerate(want):
        if line == "…":
            rest = want[number + 1:]
            at = len(have) if not rest else next((i for i in range(at, len(have)) if have[i] == rest[0]), len(have))
            continue
        if at >= len(have):
            return f"not printed: {line}"
        if have[at] != line:
            return f"printed: {have[at]}\n    shown:   {line}"
        at += 1
    return f"printed and not shown: {have[at]}" if at < len(have) else None


class Shell:
    """One bash for a block's commands, so that variables and jobs live on from one to the next."""

    def __init__(self, directory: str, environment: dict[str, str]):
        self.directory = directory
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        self.jobs: list[int] = []
        self.pending = b""

    def ask(self, text: str, seconds: float) -> list[str] | None:
        """What `text` prints up to its end; nil if that takes too long."""
        mark = "\x1e"
        self.process.stdin.write(f"{text}\nprintf '\\n{mark}%d{mark}\\n' $?\n".encode())
        self.process.stdin.flush()
        end = time.monotonic() + seconds
        os.set_blocking(self.process.stdout.fileno(), False)
        while self.pending.count(mark.encode()) < 2:
            more = self.process.stdout.read()
            if more:
                self.pending += more
            elif self.process.poll() is not None or time.monotonic() > end:
                return None
            else:
                time.sleep(0.005)
        text, status, rest = self.pending.split(mark.encode(), 2)
        self.pending = rest.lstrip(b"\n")
        self.status = int(status)
        return text.decode(errors="replace").removesuffix("\n").split("\n")

    def start(self, command: str) -> str | None:
        """Starts what is left to run, and waits until it listens; what went wrong."""
        log = f"{self.directory}/.job{len(self.jobs)}"
        lines = self.ask(f"{command.rstrip().removesuffix('&')} > {log} 2>&1 < /dev/null & echo $!", 10)
        if not lines:
            return "it could not be started"
        pid = int(lines[0])
        self.jobs.append(pid)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if not is_running(pid):
                return "it ended: " + pathlib.Path(log).read_text(errors="replace").strip()
            if listens(pid):
                return None
            time.sleep(0.01)
        return "it does not listen after 20 s"

    def close(self) -> None:
        for pid in reversed(self.jobs):
            if is_running(pid):
                os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while is_running(pid) and time.monotonic() < end:
                time.sleep(0.01)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def is_running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def listens(pid: int) -> bool:
    """Whether a process has a Unix socket that it listens on."""
    try:
        own = {os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    rows = (line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(int(row[3], 16) & 0x10000 and f"socket:[{row[6]}]" in own for row in rows)


def run(block: Block, scratch: str, environment: dict[str, str]) -> str | None:
    """What is wrong with a block; None: nothing."""
    vary = "numbers vary" in block.tags
    if (command := block.argument("printed by:")) is not None:
        commands = [(command, block.lines)]
    else:
        commands = commands_of(block)
    shows = any(lines for _, lines in commands)
    shell = Shell(scratch, environment)
    try:
        for number, (command, wanted) in enumerate(commands):
            command = command.replace("/tmp/rd", scratch)
            words = command.split("\n")[0]
            if command.rstrip().endswith("&"):
                if trouble := shell.start(command):
                    return f"{words}: {trouble}"
                continue
            if "until interrupted" in block.tags and number == len(commands) - 1:
                if trouble := interrupt(command, wanted, scratch, environment, vary):
                    return f"{words}\n    {trouble}"
                continue
            printed = shell.ask(command, SECONDS)
            if printed is None:
                return f"{words}: not done after {SECONDS} s: {shell.pending.decode(errors='replace')[-500:]}"
            mayfail = any(line.startswith("causeway: ") for line in wanted)
            if shell.status != 0 and not mayfail:
                return f"{words}: status {shell.status}: " + "\n    ".join(printed[-5:])
            if shows and (trouble := difference(wanted, printed, scratch, vary)):
                return f"{words}\n    {trouble}"
    finally:
        shell.close()
    return None


def interrupt(command: str, wanted: list[str], scratch: str, environment: dict[str, str], vary: bool) -> str | None:
    """Runs a command until it has printed what is shown, then interrupts it; what is wrong."""
    log = pathlib.Path(scratch, ".until")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        if difference(wanted, log.read_text(errors="replace").split("\n"), scratch, vary) is None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        status = process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"it does not end: {log.read_text(errors='replace')}"
    if trouble := difference(wanted, log.read_text(errors="replace").split("\n"), scratch, vary):
        return trouble
    return f"interrupted, it ended with status {status}" if status != 0 else None


def look(block: Block, root: pathlib.Path) -> str | None:
    """What can be wrong with a block that nobody runs."""
    if strange := [tag for tag in block.tags if not KINDS.fullmatch(tag)]:
        return f"<!-- {strange[0]} --> is no kind of block"
    if (name := block.argument("piece of")) is not None:
        file = root / name
        if not file.is_file():
            return f"{name}: no such file"
        lines = iter([line.strip() for line in file.read_text().split("\n")])
        for line in block.lines:
            text = line.strip()
            if text and text != "…" and text not in lines:
                return f"{name} does not have, in this order: {text}"
    elif not block.is_transcript and not block.tags and not block.language:
        return "no commands that begin with `$ `, and no comment that says what it is (tools/checks/pages.py)"
    elif block.language and block.language != "mermaid" and not block.tags:
        return f"```{block.language}: <!-- piece of FILE --> or <!-- text -->?"
    return None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--command", type=pathlib.Path)
    parser.add_argument("pages", nargs="*")
    given = parser.parse_args()
    root = given.root.resolve()
    pages = given.pages or [p.relative_to(root).as_posix() for p in sorted([root / "README.md", *root.glob("Docs/**/*.md")])]
    complaints, looked, ran, passed = [], 0, 0, 0
    for page in pages:
        blocks = blocks_of(page, (root / page).read_text(encoding="utf-8"))
        looked += len(blocks)
        sound = []
        for block in blocks:
            if trouble := look(block, root):
                complaints.append(f"{block.place}: {trouble}")
            else:
                sound.append(block)
        if given.command is None:
            continue
        with tempfile.TemporaryDirectory(prefix="cw-page.") as scratch:
            programs = pathlib.Path(scratch, ".bin")
            programs.mkdir()
            (programs / "causeway").symlink_to(given.command.resolve())
            environment = {k: v for k, v in os.environ.items() if k not in ("CAUSEWAY_RUN_DIR", "XENSTORED_PATH")}
            environment["PATH"] = f"{programs}:{environment.get('PATH', '')}:/usr/sbin:/sbin"
            for block in sound:
                if not block.is_run:
                    continue
                if "root" in block.tags and os.geteuid() != 0:
                    passed += 1
                    continue
                ran += 1
                if trouble := run(block, scratch, environment):
                    complaints.append(f"{block.place}: {trouble}")
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"pages: {looked} blocks" + (f", {ran} of them run, print what they show" if given.command else " are what they say")
              + (f" ({passed} need root)" if passed else ""))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
