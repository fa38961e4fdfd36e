#!/usr/bin/env python3
"""Nothing below the commands takes a clock or chance from the air: each is given a source by whoever starts it.

tools/checks/airborne.py [FOLDER]: says, one line each, which line of FOLDER/Sources (FOLDER: this checkout) reads a
clock, sleeps or draws chance by itself, or names the system's sources. `Command` and `Exports` start things and may;
so may the two files that are those sources. Comments are not looked at.
"""
import pathlib
import re
import sys

# Where things are started, and the sources themselves.
STARTERS = ("Command/", "Exports/")
SOURCES = {"Host/LinuxSystem/TimeSource.swift", "Host/LinuxSystem/RandomSource.swift"}

AIR = re.compile(
    r"""
      \b (?: ContinuousClock | SuspendingClock | DispatchTime | DispatchWallTime | UUID ) \b
    | \b (?: clock_gettime | clock_nanosleep | gettimeofday | timespec_get | nanosleep | usleep ) \(
    | \b (?: time \( (?: nil | & ) | clock \( \) | sleep \( \d )       # ours of these names take something else
    | \b (?: monotonic | calendar ) (?: Milli | Nano ) seconds \( | \b sleepMilliseconds \(
    | \b Date (?: \( \) | \.now \b ) | \b (?: Task | Thread ) \.sleep \b
    | \b (?: getrandom | getentropy | arc4random\w* | drand48 | rand | random ) \( | \b SystemRandomNumberGenerator \b
    | \. (?: shuffle | shuffled | randomElement ) \(
    | \b (?: SystemTime | SystemRandom ) \b
    | (?<! \w ) \.system \b (?! \( )                                   # an error case of this name has a value
    """,
    re.X,
)

# A comment; what stands in quotes may have two slashes, but not after a space.
COMMENT = re.compile(r"(?:^|(?<=\s))//.*")
BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.S)


def code(text: str) -> list[str]:
    """The file's lines without their comments."""
    text = BLOCK_COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)
    return [COMMENT.sub("", line) for line in text.splitlines()]


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    sources = root / "Sources"
    seen, faults = 0, []
    for file in sorted(sources.rglob("*.swift")):
        name = file.relative_to(sources).as_posix()
        if name.startswith(STARTERS) or name in SOURCES:
            continue
        seen += 1
        for number, line in enumerate(code(file.read_text()), 1):
            for match in AIR.finditer(line):
                faults.append(f"Sources/{name}:{number}: takes time or chance from the air: {match.group().strip()}")
    for fault in faults:
        print(fault)
    if seen == 0:
        print(f"airborne: {sources}: no files found", file=sys.stderr)
        return 2
    if not faults:
        print(f"airborne: {seen} files take neither time nor chance from the air")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
