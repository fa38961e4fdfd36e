// A gate before an eventfd that somebody else has, too: open, whoever comes writes, and pays for it with loads and two
// stores of its own thread's; who shuts it pays for all (`Bells.h`).

import CLinux
import Synchronization

/// Before an eventfd. Any thread passes; `open`, `turnAway` and `shut` are called by one at a time.
public struct BellGate: ~Copyable, Sendable {
    private enum State {
        static let shut: UInt32 = 0
        static let open: UInt32 = 1
        /// Shut, but somebody who came before may be inside.
        static let shutting: UInt32 = 2
    }
    private let state = Atomic<UInt32>(State.shut)
    private let number = Atomic<Int32>(-1)

    /// Shut.
    public init() {}

    /// Adds one to the eventfd's count, after all that was stored before; nil if the gate is shut. As long as
    /// `Descriptor.tell` at most.
    public borrowing func pass() -> BellOutcome? {
        if state.load(ordering: .relaxed) != State.open { return nil }
        // SAFETY: a thread's place among the writers lives as long as the process.
        guard let writer = unsafe causeway_bells_enter() else { return nil }
        defer { unsafe causeway_bells_leave(writer) }
        // Once more: whoever has shut it before this waits for no one, and whoever does it later waits for this thread.
        guard state.load(ordering: .acquiring) == State.open else { return nil }
        return BellOutcome(causeway_bells_write(number.load(ordering: .relaxed), 1))
    }

    /// Whoever passes from here on writes to `descriptor`, which the caller keeps open until it has shut the gate.
    package borrowing func open(to descriptor: borrowing Descriptor) {
        number.store(descriptor.rawValue, ordering: .relaxed)
        state.store(State.open, ordering: .releasing)
    }

    /// Nobody comes in any more; somebody may still be inside.
    package borrowing func turnAway() {
        if state.load(ordering: .relaxed) == State.open { state.store(State.shutting, ordering: .relaxed) }
    }

    /// From its return on nobody is inside. Not by somebody who is.
    package borrowing func shut() {
        turnAway()
        if state.load(ordering: .relaxed) == State.shut { return }
        causeway_bells_wait()
        state.store(State.shut, ordering: .relaxed)
    }
}
