// The reactor's timers: a binary heap in user space. Setting one costs no entry in the ring and no system call; the
// nearest deadline bounds the sleep.

struct Timer {
    /// Nanoseconds of the reactor's clock.
    var deadline: UInt64
    var slot: ReactorSlot
    var tag: UInt32
}

struct TimerHeap {
    private var heap: [Timer] = []

    var isEmpty: Bool { heap.isEmpty }
    var count: Int { heap.count }
    var nearest: UInt64? { heap.first?.deadline }

    mutating func insert(_ timer: Timer) {
        heap.append(timer)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if heap[parent].deadline <= heap[child].deadline { break }
            heap.swapAt(parent, child)
            child = parent
        }
    }

    /// Takes the nearest timer if it is due at `now`.
    mutating func popDue(_ now: UInt64) -> Timer? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        return first
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
                if heap[child].deadline < heap[least].deadline { least = child }
            }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
