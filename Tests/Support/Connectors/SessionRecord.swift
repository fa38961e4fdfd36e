// What outlives a test's back end: its session, and memory that may become shorter.

import Glibc
import LinuxSystem
import Synchronization
import TestSupport
import Testing
import VhostUser

/// Keeps a session, as a process beside the one that serves would.
package final class SessionRecord: VhostKeeper {
    package let session = Mutex<VhostHandover?>(nil)
    /// What was done with it, in order.
    package let steps = LineCollector()
    package func began(_ session: VhostHandover) {
        keep(session)
        steps.add("began")
    }
    package func willRead() { steps.add("read") }
    package func keep(_ session: VhostHandover) {
        self.session.withLock { $0 = session }
        steps.add("keep")
    }
    package func didAnswer() { steps.add("answered") }
    package func ended() { steps.add("ended") }
}

/// A file that anybody may make shorter who has it.
package enum UnsealedFile {
    package static func make(byteCount: Int) throws -> Descriptor {
        let path = try FileSystem.makeTemporaryDirectory("/tmp/cwguest.")
        defer {
            FileSystem.remove("\(path)/memory")
            FileSystem.removeDirectory(path)
        }
        let file = try Descriptor.open("\(path)/memory", O_RDWR | O_CREAT)
        #expect(ftruncate(file.rawValue, off_t(byteCount)) == 0)
        return file
    }
}
