"""Faults of running devices, for tests in Python: what `causeway fault` sets is set for as long as a `with` lasts.

Needs `causeway` in the path and $CAUSEWAY_RUN_DIR, which `causeway pair` and `export` give to their commands."""
import contextlib
import subprocess


def causeway(*words: str) -> str:
    """What a command prints; its one line of complaint is the exception's."""
    done = subprocess.run(["causeway", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


class Fault:
    """A fault that is set, by its name."""

    def __init__(self, device: str, name: str, side: str):
        self.device, self.name, self.side = device, name, side

    @property
    def struck(self) -> int:
        """How often it struck so far."""
        for row in causeway("fault", self.device, "--side", self.side).splitlines()[1:]:
            if row.split()[0] == self.name:
                return int(row.split()[-3])
        raise LookupError(f"{self.name} is not set")


@contextlib.contextmanager
def fault(device: str, kind: str, side: str = "back", **options: object):
    """Sets a fault and undoes it: `with fault("vbd-1/51712", "delay", ms=50, every=4, seed=7): …`."""
    words = [f"--{option}={value}" for option, value in options.items()]
    name = causeway("fault", device, kind, "--side", side, *words).split(":")[0]
    try:
        yield Fault(device, name, side)
    finally:
        causeway("fault", device, "--clear", name, "--side", side)
