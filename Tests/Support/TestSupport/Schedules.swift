// The same race again and again, each time with its threads on other processors and interrupted at other moments.

import Foundation
import LinuxSystem
import Synchronization

/// Ways to run a race: which processors it has, and who takes them away.
public enum Schedules {
    /// Runs `body` so often, differently each time: on all processors, on one alone, and beside threads that take a
    /// processor for up to 200 µs at moments that `seed` and the round decide.
    public static func each(_ count: Int = 24, seed: UInt64, _ body: (Int) throws -> Void) throws {
        let processors = ProcessInfo.processInfo.processorCount
        defer { place(on: "0-\(processors - 1)") }
        for round in 0..<count {
            // One processor in two rounds of three; nobody knows which one suits whom.
            place(on: round % 3 == 0 ? "0-\(processors - 1)" : "\(round % processors)")
            let over = Flag()
            let others = try (0..<(round % 2 == 0 ? 0 : 2)).map { number in
                try WorkerThread(name: "other") { interrupt(SplitMix(seed ^ UInt64(round << 8 | number)), until: over) }
            }
            defer {
                over.set()
                for other in others { other.join() }
            }
            try body(round)
        }
    }

    /// Takes a processor for a while, and lets go of it for another, without end.
    private static func interrupt(_ random: consuming SplitMix, until over: Flag) {
        while !over.isSet {
            let end = monotonicNanoseconds() + random.next() % 200_000
            while monotonicNanoseconds() < end {}
            if random.next() % 4 == 0 { usleep(UInt32(random.next() % 2000)) } else { sched_yield() }
        }
    }

    /// Has all threads of this process run there, and those that they make.
    private static func place(on processors: String) {
        let pipe = popen("taskset -a -c -p \(processors) \(getpid()) >/dev/null 2>&1", "r")
        if let pipe { pclose(pipe) }
    }

    private final class Flag: Sendable {
        private let value = Atomic<Bool>(false)
        var isSet: Bool { value.load(ordering: .relaxed) }
        func set() { value.store(true, ordering: .relaxed) }
    }
}
