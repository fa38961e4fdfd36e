"""One run of tests with a mutant on, or none: bounded in time and memory, and nothing of it stays."""
import contextlib
import ctypes
import dataclasses
import os
import re
import resource
import select
import signal
import subprocess
import time

import tree

ADDRESS_SPACE = 24 << 30
PR_SET_CHILD_SUBREAPER = 36
FAILURE = re.compile(r"^✘ Test (?!run |case )(.+?) (?:with .* )?(?:recorded an issue|failed after)", re.MULTILINE)


@dataclasses.dataclass
class Outcome:
    """How a run ended."""

    # passed, failed, crashed, hung, none (no test has these names)
    verdict: str
    seconds: float
    # The tests that failed, or what ended the run.
    words: str


def adopt_orphans() -> None:
    """Makes this process the parent of whatever a test leaves behind when it dies."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """All processes that come from this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def clear() -> None:
    """Ends whatever a run has left behind."""
    for _ in range(50):
        left = descendants()
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.02)


def limits() -> None:
    """No cores, and memory that has an end: some mutants take away what bounds it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def run(place: tree.Tree, filters: list[str], mutant: int | None, limit: float) -> Outcome:
    """Runs the tests that `filters` name, for `limit` seconds at most."""
    words = [place.bundle(), "--testing-library", "swift-testing", "--no-parallel"]
    for each in filters:
        words += ["--filter", each]
    environment = {name: value for name, value in os.environ.items() if name != "CAUSEWAY_MUTANT"}
    environment |= {"SWIFT_BACKTRACE": "enable=no", "NO_COLOR": "1"}
    if mutant is not None:
        environment["CAUSEWAY_MUTANT"] = str(mutant)
    begun = time.monotonic()
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        place.command(words), cwd=place.directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=limits)
    said, is_over = listen(process, begun + limit, stops_early=mutant is not None)
    took = time.monotonic() - begun
    status = process.wait() if is_over else 0
    clear()
    if failed := first_failure(said):
        return Outcome("failed", took, failed)
    return judge(status, said, took) if is_over else Outcome("hung", took, f"no end after {limit:.0f} s")


def listen(process: subprocess.Popen, deadline: float, stops_early: bool) -> tuple[str, bool]:
    """What a process says, and whether it has ended; with `stops_early` no further than to the first failure."""
    assert process.stdout
    said, file = b"", process.stdout.fileno()
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([file], [], [], left)[0]:
            break
        more = os.read(file, 1 << 16)
        said += more
        if not more:
            return said.decode(errors="replace"), True
        if stops_early and FAILURE.search(said.decode(errors="replace")):
            break
    return said.decode(errors="replace"), False


def first_failure(said: str) -> str | None:
    """The test that the first recorded issue is of."""
    found = FAILURE.search(said)
    return found.group(1) if found else None


def judge(status: int, said: str, took: float) -> Outcome:
    """What an exit status and the output of a run mean."""
    ran = re.search(r"Test run with (\d+) tests?", said)
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        with contextlib.suppress(ValueError):
            return Outcome("crashed", took, signal.Signals(number).name)
        return Outcome("crashed", took, f"status {status}")
    # 69: no test has such a name.
    if status == 69 or (ran and ran.group(1) == "0") or (status == 0 and not ran):
        return Outcome("none", took, "no test has these names")
    if status == 0:
        return Outcome("passed", took, f"{ran.group(1)} tests" if ran else "")
    return Outcome("failed", took, said.strip().splitlines()[-1][:200] if said.strip() else f"status {status}")
