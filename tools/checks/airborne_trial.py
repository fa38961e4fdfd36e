#!/usr/bin/env python3
"""Whether airborne.py finds what it is for: a sound house, and each mistake planted in it, one at a time."""
import pathlib
import sys

from trial import complaints, report

CHECK = pathlib.Path(__file__).with_name("airborne.py")
CLOCK = "var now = timespec()\n_ = unsafe clock_gettime(CLOCK_MONOTONIC, &now)\n"
HOUSE = {
    "Host/LinuxSystem/TimeSource.swift": f"public struct SystemTime {{}}\n{CLOCK}",
    "Host/LinuxSystem/RandomSource.swift": "var generator = SystemRandomNumberGenerator()\n",
    "Host/Reactor/A.swift": (
        "/// Not `ContinuousClock`; a time source. See nbd://host.\n"
        "let now = time.nanoseconds // never Date()\n"
        "/* usleep(1)\n   is not used */\n"
        "sleep()\ntime.sleep(milliseconds: 20)\n"
        'throw .system("sleep", doing: "x")\n'
        "let uuid = DomainDirectories.randomUUID(from: random)\n"
    ),
    "Command/causeway/A.swift": "let hypervisor = LibxenHypervisor(time: .system)\nlet now = ContinuousClock.now\n",
    "Exports/NBDExport/A.swift": "let hypervisor = LibxenHypervisor(time: .system)\n",
}
# A line of a module below the commands.
MISTAKES = [
    "let end = ContinuousClock.now + timeout",
    "let start = DispatchTime.now()",
    "unsafe clock_gettime(CLOCK_MONOTONIC, &now)",
    "let seconds = time(nil)",
    "let today = Date()",
    "usleep(20_000)",
    "sleep(1)",
    "unsafe nanosleep(&pause, nil)",
    "sleepMilliseconds(20)",
    "let now = monotonicNanoseconds()",
    "try await Task.sleep(for: .seconds(1))",
    "let factor = UInt64.random(in: 1 ... .max) | 1",
    "var generator = SystemRandomNumberGenerator()",
    "unsafe getrandom(&bytes, 16, 0)",
    "let queue = queues.randomElement()",
    "order.shuffle()",
    "let name = UUID()",
    "let reactor = try Reactor(name: name, time: .system)",
    "init(name: String, time: some TimeSource = .system) {}",
    "let time: any TimeSource = SystemTime()",
    "let index = GrantIndex(limit: 1, random: SystemRandom())",
    'log("nbd://host is late: \\(Date())")',
]


def main() -> int:
    failures = []
    status, text = complaints(CHECK, HOUSE)
    if status != 0:
        failures.append(f"a sound house is refused: {text}")
    place = "Drivers/Runtime/DriverRuntime/A.swift"
    for line in MISTAKES:
        status, text = complaints(CHECK, {**HOUSE, place: f"import LinuxSystem\n\n{line}\n"})
        if status != 1 or f"Sources/{place}:3: " not in text:
            failures.append(f"not found: {line} (status {status}): {text}")
    status, text = complaints(CHECK, {})
    if status != 2:
        failures.append(f"an empty house is no house (status {status}): {text}")
    return report(failures, f"airborne_trial: each of {len(MISTAKES)} mistakes is found")


if __name__ == "__main__":
    sys.exit(main())
