// One device's record in memory that outlives the process that serves it: what a successor needs to go on. Rewritten
// whenever a message has changed something, before the front end is answered.

import CommandSupport
import FoundationEssentials
import LinuxSystem
import SharedMemory
import Synchronization
import VhostUser

/// The memory: a word that says whether the record is what the front end believes, and two places for the record, of
/// which one counts. A kill at any store leaves a whole record.
final class KeptPage: Sendable {
    let descriptor: Descriptor
    private let region: SharedRegion

    private enum Layout {
        /// Not 0: a message is being dealt with.
        static let inMessage = 0
        /// Which of the two places counts: 1 or 2; 0: none yet.
        static let current = 4
        static let place = 4096
        static let placeBytes = 1 << 20
        static var byteCount: Int { place + 2 * placeBytes }

        static func start(_ current: UInt32) -> Int { place + (current == 2 ? placeBytes : 0) }
    }

    /// An empty one.
    convenience init() throws(Errno) {
        try self.init(try SealedMemory("export-device", byteCount: Layout.byteCount, final: true).descriptor)
    }

    /// One that a predecessor has written.
    init(_ descriptor: Descriptor) throws(Errno) {
        guard SealedMemory.isSealed(descriptor, byteCount: Layout.byteCount) else { throw .invalidArgument }
        self.descriptor = descriptor
        region = try SharedRegion(mapping: descriptor, byteCount: Layout.byteCount, writable: true)
    }

    /// Whether a message is being dealt with.
    var isInMessage: Bool {
        get { region.loadAcquiring(Layout.inMessage) != 0 }
        set { region.storeReleasing(newValue ? 1 : 0, at: Layout.inMessage) }
    }

    /// The record that counts; nil: there is none, or none of this version.
    var record: ExportSuccession.Device? {
        let current = region.loadAcquiring(Layout.current)
        guard current == 1 || current == 2 else { return nil }
        let start = Layout.start(current)
        let count = Int(region.loadRelaxed(start))
        guard count <= Layout.placeBytes - 4 else { return nil }
        let bytes = region.bytes(at: start + 4, count: count)
        return try? JSONDecoder().decode(ExportSuccession.Device.self, from: Data(bytes))
    }

    /// Puts another record in its place; false: there is no room for it.
    func write(_ record: ExportSuccession.Device) -> Bool {
        guard let bytes = try? JSONEncoder().encode(record), bytes.count <= Layout.placeBytes - 4 else { return false }
        let next: UInt32 = region.loadRelaxed(Layout.current) == 1 ? 2 : 1
        let start = Layout.start(next)
        region.storeRelaxed(UInt32(bytes.count), at: start)
        region.write(Array(bytes), at: start + 4)
        region.storeReleasing(next, at: Layout.current)
        return true
    }
}

/// Keeps one device's session in such a page.
final class KeptDevice: VhostKeeper {
    private let link: KeeperLink
    private let name: String
    private let path: String
    private let page: KeptPage
    private let pageNumber: Int32
    private let state: Mutex<State>

    /// Why a disk behind an NBD server is not kept if it can be written: such a write may be done at any time, also
    /// after newer ones.
    static let whyNoWritableNBD =
        "an NBD server may still be at a write of a process that was killed; read-only ones can be kept"

    private struct State {
        var behind: ExportedDevice.Behind?
        var listener: Descriptor?
        /// What it is kept as, whatever the record says: as long as there is the device.
        var listenerNumber: Int32?
        var session: VhostHandover?
        /// What the record names.
        var used: [Int32] = []
        var hasFailed = false
    }

    /// A device that was kept is kept where it was.
    init(_ name: String, at path: String, _ behind: ExportedDevice.Behind?, _ link: KeeperLink) throws(Failure) {
        self.name = name
        self.path = path
        self.link = link
        state = Mutex(State(behind: behind))
        do throws(Errno) {
            if let known = link.devices[name] { page = known } else { page = try KeptPage() }
            pageNumber = try link.use(page.descriptor, name: KeeperMessage.Name.page + name)
        } catch { throw Failure("\(link.user): \(name): what outlives it: \(error)") }
    }

    /// There is a socket; without a front end that is all.
    func listens(_ listener: Descriptor) {
        // With a session that was taken over the record stays as it is until that has begun.
        let before = state.withLock { state in
            state.listener = listener
            defer { state.listenerNumber = try? link.use(listener) }
            return state.listenerNumber
        }
        link.release(before.map { [$0] } ?? [])
        guard page.record == nil || page.isInMessage else { return }
        write(nil)
        page.isInMessage = false
    }

    /// Another one of this process's has the device from now on.
    func stands(before behind: ExportedDevice.Behind?) { state.withLock { $0.behind = behind } }

    /// What is behind the device may have been opened since the record was written.
    func refresh() { write(state.withLock(\.session)) }

    /// There is no such device any more: nothing of it is kept.
    func retire() {
        page.isInMessage = true
        let numbers = state.withLock { state in
            defer { (state.used, state.listener, state.listenerNumber, state.session) = ([], nil, nil, nil) }
            return state.used + (state.listenerNumber.map { [$0] } ?? [])
        }
        link.release(numbers + [pageNumber])
    }

    // MARK: VhostKeeper

    func began(_ session: VhostHandover) {
        write(session)
        page.isInMessage = state.withLock(\.hasFailed)
    }

    func willRead() { page.isInMessage = true }

    func keep(_ session: VhostHandover) { write(session) }

    func didAnswer() { page.isInMessage = state.withLock(\.hasFailed) }

    func ended() {
        page.isInMessage = true
        write(nil)
        page.isInMessage = false
    }

    /// Writes the record. What cannot be kept is lost with this process, which the word then says.
    private func write(_ session: VhostHandover?) {
        state.withLock { state in
            if let session, let known = state.session, session.state == known.state,
                session.descriptors.elementsEqual(known.descriptors, by: ===), state.behind == nil, !state.hasFailed
            {
                return
            }
            guard let listener = state.listener else { return }
            var (used, failure): ([Int32], Errno?) = ([], nil)
            let record = ExportSuccession.Device(name, at: path, listener, session, state.behind) { descriptor in
                do throws(Errno) {
                    let number = try link.use(descriptor)
                    used.append(number)
                    return number
                } catch {
                    failure = error
                    return -1
                }
            }
            let isWritten = failure == nil && page.write(record)
            if isWritten {
                swap(&state.used, &used)
                state.session = session
            } else if !state.hasFailed {
                complain("\(link.user): \(name): its session would not outlive this process: \(failure ?? .noMemory)")
            }
            state.hasFailed = !isWritten
            link.release(used)
        }
    }
}
