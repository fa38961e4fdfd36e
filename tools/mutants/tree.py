"""The copy of the repository that has the mutants in it: brought up to date, built, and searched for what does not build."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import entries

BUNDLE = "causewayPackageTests.xctest"


class BuildFailed(Exception):
    """A build that failed where no mutant is; the compiler's words."""


class Tree:
    """A copy below `directory`, built there; files that are as they were keep their times, so that they are not built again.

    With `at_home`, commands see the copy in the repository's own place (a bind mount in a mount namespace: root's), and what was
    built there already is taken over.
    """

    def __init__(self, root: pathlib.Path, directory: pathlib.Path, at_home: bool):
        self.root, self.directory, self.at_home = root, directory, at_home
        self.place = root if at_home else directory

    def update(self, mutants: list[entries.Mutant]) -> None:
        """Brings the copy up to date, with these mutants in it."""
        by_file: dict[str, list[entries.Mutant]] = {}
        for mutant in mutants:
            by_file.setdefault(mutant.file, []).append(mutant)
        # One file in each module says what the switch is.
        declaring = {entries.module(file): file for file in sorted(by_file, reverse=True)}
        self.directory.mkdir(parents=True, exist_ok=True)
        self.take_over_build()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=self.root, capture_output=True, check=True)
        names = {name for name in listed.stdout.decode().split("\0") if name and (self.root / name).is_file()}
        for name in sorted(names):
            source = self.root / name
            content = source.read_bytes()
            if name in by_file:
                content = entries.put_in(content.decode(), by_file[name], name in declaring.values()).encode()
            self.write(name, content, source)
        self.write("Sources/Host/C/CLinux/MutantSwitch.c", entries.SWITCH.encode(), None)
        # What the repository no longer has would be compiled, too.
        for folder in ("Sources", "Tests", "Examples"):
            for path in (self.directory / folder).rglob("*"):
                name = str(path.relative_to(self.directory))
                if path.is_file() and name not in names and path.name != "MutantSwitch.c":
                    path.unlink()

    def write(self, name: str, content: bytes, source: pathlib.Path | None) -> None:
        path = self.directory / name
        is_new = not path.exists()
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if source:
            shutil.copymode(source, path)
            # What has no mutant is as old as the original: what was built of it need not be built again.
            if is_new and source.read_bytes() == content:
                shutil.copystat(source, path)

    def take_over_build(self) -> None:
        """Begins with what was built in the repository itself, where commands will see it in the same place."""
        mine, theirs = self.directory / ".build", self.root / ".build"
        if not self.at_home or not theirs.is_dir() or mine.exists():
            return
        mine.mkdir()
        for path in theirs.iterdir():
            # Of what was built, that for debugging.
            of_machine = (path / "debug").is_dir() and not path.is_symlink()
            if of_machine or path.name in ("debug", "debug.yaml", "build.db", "workspace-state.json", "checkouts", "repositories", "artifacts"):
                target = mine / path.name
                if of_machine:
                    target.mkdir()
                source = path / "debug" if of_machine else path
                subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)

    def command(self, words: list[str]) -> list[str]:
        """`words`, to be run in the copy."""
        if not self.at_home:
            return words
        script = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
        return ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", str(self.directory), str(self.place), *words]

    def build(self, mutants: list[entries.Mutant], log: pathlib.Path) -> dict[str, str]:
        """Builds the copy. Those mutants that do not build are taken out again and returned: id to the compiler's words."""
        bad: dict[str, str] = {}
        while True:
            self.update([mutant for mutant in mutants if mutant.id not in bad])
            words = self.command(["swift", "build", "--ignore-lock", "--build-tests"])
            run = subprocess.run(words, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            log.write_text(run.stdout)
            if run.returncode == 0:
                return bad
            found = self.blame(run.stdout, [mutant for mutant in mutants if mutant.id not in bad])
            if not found:
                raise BuildFailed(f"the copy does not build, and not because of a mutant: see {log}")
            bad |= found

    def blame(self, output: str, mutants: list[entries.Mutant]) -> dict[str, str]:
        """The mutants on the lines that the compiler complains of, or else all those of the file."""
        found: dict[str, str] = {}
        for path, line, words in set(re.findall(r"^(/\S+\.swift):(\d+):\d+: error: (.*)$", output, re.MULTILINE)):
            with contextlib.suppress(ValueError):
                name = str(pathlib.Path(path).relative_to(self.place))
                of_file = [mutant for mutant in mutants if mutant.file == name]
                lines = (self.root / name).read_text().split("\n") if of_file else []
                exact = [mutant for mutant in of_file if mutant.line_in(lines) == int(line) - 1]
                found |= {mutant.id: words for mutant in exact or of_file}
        return found

    def bundle(self) -> str:
        """The program that has all the tests in it."""
        return os.path.join(self.place, ".build/debug", BUNDLE)
