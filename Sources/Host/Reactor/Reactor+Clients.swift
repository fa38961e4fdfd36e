// Clients, their waits and their timers. On the reactor's thread only.

import CUring
import Glibc
import LinuxSystem

extension Reactor {
    /// Gives `client` a place; it is polled from the next turn on.
    public func attach(_ client: any ReactorClient) -> ReactorSlot {
        let index: Int
        if let free = freeSeats.popLast() {
            index = free
        } else {
            index = seats.count
            precondition(index < UserData.slotLimit, "more clients than a reactor has places")
            seats.append(Seat())
        }
        seats[index].client = client
        occupied += 1
        return ReactorSlot(index: index, generation: seats[index].generation)
    }

    /// Forgets the client and its waits and timers. Operations still in flight complete into nothing; their memory must
    /// be kept by whoever began them until `inFlight(slot)` is 0, so detach after that.
    public func detach(_ slot: ReactorSlot) {
        let seat = seats[slot.index]
        guard seat.generation == slot.generation, seat.client != nil else { return }
        seat.client = nil
        seat.generation = (seat.generation &+ 1) & UserData.generationMask
        occupied -= 1
        for key in waits.keys where UserData(rawValue: key).slot == slot.index { cancelWait(key) }
        // With operations in flight the place stays empty until the last of them has come back.
        if seat.inFlight == 0 { freeSeats.append(slot.index) }
    }

    /// Operations of this slot that have not completed (waits for readability not counted).
    public func inFlight(_ slot: ReactorSlot) -> Int {
        let seat = seats[slot.index]
        return seat.generation == slot.generation ? seat.inFlight : 0
    }

    /// Completes `tag` once when `descriptor` becomes readable (one-shot). The result is poll's event mask. The
    /// descriptor stays open until then.
    public func whenReadable(_ descriptor: Descriptor, _ slot: ReactorSlot, tag: UInt32) {
        whenReady(descriptor, events: UInt32(POLLIN), slot, tag: tag)
    }

    /// Completes `tag` once when `descriptor` becomes writable (one-shot). Use another tag than for readability.
    public func whenWritable(_ descriptor: Descriptor, _ slot: ReactorSlot, tag: UInt32) {
        whenReady(descriptor, events: UInt32(POLLOUT), slot, tag: tag)
    }

    /// Completes `tag` once after so many microseconds.
    public func after(microseconds: UInt64, _ slot: ReactorSlot, tag: UInt32) {
        let nanoseconds = microseconds.multipliedReportingOverflow(by: 1000)
        let deadline = time.nanoseconds.addingReportingOverflow(
            nanoseconds.overflow ? UInt64.max : nanoseconds.partialValue)
        timers.insert(Timer(deadline: deadline.overflow ? UInt64.max : deadline.partialValue, slot: slot, tag: tag))
    }

    /// Drops a wait for readiness. It may complete all the same if it had come about already.
    public func cancelWait(_ slot: ReactorSlot, tag: UInt32) {
        let key = UserData(.wait, slot, tag: tag).rawValue
        if waits[key] != nil { cancelWait(key) }
    }

    /// Completes `tag` with `result` on the reactor's thread, soon; from any thread. Not counted as in flight; nothing
    /// happens if the client is gone by then.
    public func notify(_ slot: ReactorSlot, tag: UInt32, result: Int32) {
        post {
            let seat = self.seats[slot.index]
            if seat.generation == slot.generation { seat.client?.completed(tag: tag, result: result) }
        }
    }

    private func cancelWait(_ key: UInt64) {
        var entry = SubmissionEntry()
        // SAFETY: fills in the entry's words; the key is a number to the kernel.
        unsafe entry.prepare { unsafe io_uring_prep_cancel64($0, key, 0) }
        push(entry, UserData(.ignored, ReactorSlot(index: 0, generation: 0), tag: 0))
    }

    private func whenReady(_ descriptor: Descriptor, events: UInt32, _ slot: ReactorSlot, tag: UInt32) {
        let data = UserData(.wait, slot, tag: tag)
        waits[data.rawValue] = descriptor
        var entry = SubmissionEntry()
        // SAFETY: fills in the entry's words; `waits` keeps the descriptor open until the completion.
        unsafe entry.prepare { unsafe io_uring_prep_poll_add($0, descriptor.rawValue, events) }
        push(entry, data)
    }

    /// Listens to the wake-up. Multishot and edge-triggered: each write completes once, and nobody needs to read the
    /// counter back.
    func armWake() {
        var entry = SubmissionEntry()
        let descriptor = wake.rawValue
        // SAFETY: fills in the entry's words; the descriptor is the reactor's own and as old as the ring.
        unsafe entry.prepare { unsafe io_uring_prep_poll_multishot($0, descriptor, UInt32(POLLIN)) }
        push(entry, UserData(.wake, ReactorSlot(index: 0, generation: 0), tag: 0))
    }
}
