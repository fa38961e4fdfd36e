// A process that has made itself ready to serve and waits until the one that serves has ended: to load a program and
// read its arguments is most of what front ends would wait for else.

import CommandSupport
import LinuxSystem

/// The next process, if it is there already.
struct SpareWorker {
    private var worker: KeptWorker?
    /// Which `ready` it was started after: a later one may have been another program's.
    private var generation = 0

    /// It, if it can serve in the place of the one that has ended; it begins.
    mutating func take(_ kept: KeptDescriptors) -> KeptWorker? {
        guard generation == kept.readyCount else {
            end()
            return nil
        }
        guard let spare = worker.take() else { return nil }
        if spare.process.reap() != nil {
            spare.finish()
            return nil
        }
        spare.begin()
        return spare
    }

    /// Starts one whenever a process serves that has not got one. One that ends before its turn is not started again:
    /// without it a start takes longer, and that is all.
    mutating func lookAfter(_ kept: KeptDescriptors, _ start: (Descriptor) throws(Failure) -> ChildProcess) {
        if let spare = worker, spare.process.reap() != nil {
            worker = nil
            spare.finish()
        }
        let count = kept.readyCount
        guard count != generation, !kept.isAwaited, kept.variables != nil else { return }
        end()
        generation = count
        do throws(Failure) { worker = try kept.start(isSpare: true, start) } catch {
            complain("\(error): a successor will take longer to serve")
        }
    }

    /// Nobody will need it any more.
    mutating func end() {
        guard let spare = worker.take() else { return }
        // It has begun nothing.
        spare.process.stop(milliseconds: 0)
        spare.finish()
    }
}
