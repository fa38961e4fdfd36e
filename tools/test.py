#!/usr/bin/env python3
"""Runs the tests, which have been built: tools/test.py [--reports DIRECTORY] [--only LANE]

Tests block threads, start processes and measure time, so within a lane they run one after another. There are two lanes at once, one a
processor: `commands`, whose tests start programs and mostly wait for them, and `modules`, all the others, then the block and network suites
once more through Xen's libraries (tools/test-libxen.sh). What has ended is printed as it ends, behind its lane's name; what failed once
more at the end. DIRECTORY gets a report of each run for tools/failed-tests.py. On one processor the lanes run one behind the other.
"""
import argparse
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# The one target whose tests are about whole programs.
PROGRAMS = r"^CommandTests\."


class Lane(threading.Thread):
    def __init__(self, name: str, commands: list[list[str]]):
        super().__init__(name=name)
        self.commands, self.failed, self.status, self.seconds = commands, [], 0, 0.0

    def run(self) -> None:
        begun = time.monotonic()
        plain = {**os.environ, "NO_COLOR": "1"}
        for command in self.commands:
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=plain
            ) as process:
                assert process.stdout
                for line in process.stdout:
                    if line.startswith("◇ Test case"):
                        continue
                    print(f"{self.name}: {line}", end="", flush=True)
                    if line.startswith(("✘", "↳")):
                        self.failed.append(line)
            if process.returncode:
                print(f"{self.name}: {command[0]} ended with {process.returncode}", flush=True)
                self.status = self.status or process.returncode
        self.seconds = time.monotonic() - begun


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--reports", metavar="DIRECTORY")
    options.add_argument("--only", choices=["commands", "modules"])
    chosen = options.parse_args()
    swift = os.environ.get("SWIFT", "swift")
    where = subprocess.run([swift, "build", "--show-bin-path"], check=True, capture_output=True, text=True).stdout.strip()
    reported = (lambda name: ["--xunit-output", os.path.join(chosen.reports, f"{name}.xml")]) if chosen.reports else (lambda name: [])
    bundle = [os.path.join(where, "causewayPackageTests.xctest"), "--testing-library", "swift-testing", "--no-parallel"]
    lanes = [
        Lane("commands", [[*bundle, "--filter", PROGRAMS, *reported("commands")]]),
        Lane("modules", [
            [*bundle, "--skip", PROGRAMS, *reported("modules")],
            ["sh", os.path.join(HERE, "test-libxen.sh"), *reported("libxen")],
        ]),
    ]
    lanes = [lane for lane in lanes if chosen.only in (None, lane.name)]
    for lane in lanes:
        lane.start()
        if (os.cpu_count() or 1) < 2:
            lane.join()
    for lane in lanes:
        lane.join()
    for lane in lanes:
        for line in lane.failed:
            print(f"{lane.name}: {line}", end="")
        print(f"{lane.name}: {'passed' if lane.status == 0 else f'failed with {lane.status}'} after {lane.seconds:.0f} s")
    return next((1 for lane in lanes if lane.status), 0)


sys.exit(main())
