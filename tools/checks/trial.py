"""What the trials of the checks share: a small house on disk, the check run on it, and one line at the end."""
import pathlib
import subprocess
import sys
import tempfile


def complaints(check: pathlib.Path, files: dict[str, str], folders: tuple[str, ...] = ()) -> tuple[int, str]:
    """What `check` says of a house with these files below Sources/, and its status."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, "Sources", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for folder in folders:
            pathlib.Path(root, "Sources", folder).mkdir(parents=True, exist_ok=True)
        run = subprocess.run([sys.executable, str(check), root], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr


def report(failures: list[str], success: str) -> int:
    """Prints the failures, or `success` where there are none; the exit status."""
    for failure in failures:
        print(failure)
    if not failures:
        print(success)
    return 1 if failures else 0
