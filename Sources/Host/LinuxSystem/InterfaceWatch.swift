// Word of interfaces that change: who renames, moves, resizes or removes one does not tell those who use it; the kernel
// does.

import CLinux
import Glibc

/// A thread that listens until it is stopped.
public final class InterfaceWatch: Sendable {
    private let end: WakePipe
    private let thread: WorkerThread

    /// - Parameter changed: is told the numbers of interfaces that changed, of the calling thread's namespace and of
    ///   others that it knows; nil: any may have. On the watch's thread.
    public init(_ changed: @escaping @Sendable (Set<UInt32>?) -> Void) throws(Errno) {
        let watch = Descriptor(owning: try retryingInterrupts { causeway_link_watch() })
        let end = try WakePipe()
        self.end = end
        thread = try WorkerThread(name: "interfaces", blocksSignals: true) {
            while (try? waitReadable(watch.rawValue, end.reader.rawValue, milliseconds: -1)) != nil {
                if drainPipe(end.reader) { return }
                switch Self.changes(watch) {
                case .some(let indices) where indices.isEmpty: break
                case let indices: changed(indices)
                }
            }
        }
    }

    /// Everything that there is to tell; nil: some was missed.
    private static func changes(_ watch: Descriptor) -> Set<UInt32>? {
        var all: Set<UInt32> = []
        var some = [UInt32](repeating: 0, count: 256)
        while true {
            // SAFETY: the call writes no more numbers than it is told there is room for.
            let count = unsafe some.withUnsafeMutableBufferPointer { buffer in
                unsafe causeway_link_changes(watch.rawValue, buffer.baseAddress, Int32(buffer.count))
            }
            if count == 0 { return all }
            if count > 0 { all.formUnion(some[..<Int(count)]) } else if errno != ENOMSG { return nil }
        }
    }

    /// Ends it; nothing is told afterwards. Not from `changed`.
    public func stop() {
        signalPipe(end.writer)
        thread.join()
    }
}
