// An image of a Ceph cluster, through librbd. Opening, locking and asking may block and happen on helper threads;
// requests are begun and taken back by one thread at a time.

import CLinux
import CRBD
import LinuxSystem
import SharedMemory

/// An open image with a connection of its own to its cluster; closed, on a thread of its own, when the last reference
/// goes: that may take as long as the cluster is away.
///
/// SAFETY: `raw` is what `causeway_rbd_create` made, closed once: by `init` if that fails, else by the thread that
/// `deinit` starts. The library locks what threads share. `done` has `places` places, and is used by whoever reaps.
/// Each request holds a reference to its transfer from `begin` to `reap`, so that its buffer lives as long as the
/// library may write it; texts are lent for the call that they are given to.
@safe
package final class RBDImage: @unchecked Sendable {
    private let raw: OpaquePointer
    /// Becomes readable when requests have ended.
    package let bell: Descriptor
    /// This connection as others see it in an image's lock.
    package let address: String
    /// The cluster's number.
    package let cluster: String
    /// Requests that have not been reaped.
    package private(set) var outstanding = 0
    private let done: UnsafeMutablePointer<causeway_rbd_done>

    private static let places = 64
    /// Milliseconds that a disk of this process is waited for that was given up a moment ago.
    private static let patience: Int32 = 2000

    /// Connects and opens. Blocks; a cluster or OSDs that do not answer are given up after some seconds.
    package init(_ place: RBDPlace, readOnly: Bool) throws(RBDError) {
        try Self.load()
        let bell = causeway_eventfd()
        guard bell >= 0 else { throw RBDError(.waking, .current) }
        self.bell = Descriptor(owning: bell)
        var error: Int32 = 0
        guard let raw = unsafe causeway_rbd_create(place.user, &error) else {
            throw RBDError(.connecting(user: place.user), Errno(-error))
        }
        do throws(RBDError) {
            try unsafe Self.open(raw, place, readOnly, self.bell)
        } catch {
            unsafe causeway_rbd_close(raw)
            throw error
        }
        unsafe self.raw = raw
        address = unsafe Self.text { unsafe causeway_rbd_address(raw, $0, $1) }
        cluster = unsafe Self.text { unsafe causeway_rbd_cluster(raw, $0, $1) }
        unsafe done = .allocate(capacity: Self.places)
        unsafe done.initialize(repeating: causeway_rbd_done(), count: Self.places)
    }

    deinit {
        unsafe done.deallocate()
        unsafe LeavingImage(raw: raw, bell: bell, outstanding: outstanding).leave()
    }

    private static func load() throws(RBDError) {
        // SAFETY: the text is as old as the process.
        if let words = unsafe causeway_rbd_load() { throw RBDError(.loading(unsafe String(cString: words)), .noSuchFile) }
        // A disk of this process that was given up a moment ago still has its lock.
        _ = causeway_rbd_await_closing(patience)
    }

    private static func open(_ raw: OpaquePointer, _ place: RBDPlace, _ readOnly: Bool, _ bell: Descriptor) throws(RBDError) {
        func check(_ result: Int32, _ stage: RBDError.Stage) throws(RBDError) {
            if result < 0 { throw RBDError(stage, Errno(-result)) }
        }
        try check(unsafe causeway_rbd_configure(raw, place.configuration), .configuring(place.configuration))
        for option in place.options {
            try check(unsafe causeway_rbd_set(raw, option.name, option.value), .setting(option.name))
        }
        try check(unsafe causeway_rbd_connect(raw), .connecting(user: place.user))
        try check(unsafe causeway_rbd_use_pool(raw, place.pool, place.nameSpace), .openingPool(place.pool))
        let name = place.snapshot.isEmpty ? "image \(place.image)" : "snapshot \(place.snapshot) of an image \(place.image)"
        try check(
            unsafe causeway_rbd_open(raw, place.image, place.snapshot, readOnly ? 1 : 0, bell.rawValue),
            .opening("\(name) in pool \(place.pool)"))
    }

    private static func text(_ fill: (UnsafeMutablePointer<CChar>, Int) -> Void) -> String {
        var bytes = [CChar](repeating: 0, count: 256)
        let count = bytes.count
        unsafe bytes.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { unsafe fill(base, count) } }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: Asking: may block

    /// Bytes.
    package func byteCount() throws(RBDError) -> UInt64 {
        var bytes: UInt64 = 0
        let result = unsafe causeway_rbd_size(raw, &bytes)
        if result < 0 { throw RBDError(.asking("the size"), Errno(-result)) }
        return bytes
    }

    /// Whether the image can be locked (its feature `exclusive-lock`).
    package func canBeLocked() throws(RBDError) -> Bool {
        var features: UInt64 = 0
        let result = unsafe causeway_rbd_features(raw, &features)
        if result < 0 { throw RBDError(.asking("the features"), Errno(-result)) }
        return features & 1 << 2 != 0
    }

    /// A number of the configuration; 0: there is none.
    package func number(of option: String) -> UInt64 { unsafe causeway_rbd_get(raw, option) }

    /// Who has the lock, by the address; nil: nobody.
    package func owner() throws(RBDError) -> String? {
        var result: Int32 = 0
        let owner = unsafe Self.text { result = unsafe causeway_rbd_owner(raw, $0, $1) }
        if result < 0 { throw RBDError(.asking("who has the lock"), Errno(-result)) }
        return result > 0 ? owner : nil
    }

    /// Whether a client has the image open; one that was killed has, for half a minute by Ceph's defaults.
    package func isOpen(by address: String) throws(RBDError) -> Bool {
        let result = unsafe causeway_rbd_is_watched(raw, address)
        if result < 0 { throw RBDError(.asking("who has the image open"), Errno(-result)) }
        return result > 0
    }

    /// Takes the lock, for as long as the image is open or until somebody breaks it. A client that is gone loses it,
    /// and is kept out by the cluster; one that is there keeps it: EROFS.
    package func takeLock() throws(RBDError) {
        let result = unsafe causeway_rbd_lock(raw)
        if result < 0 { throw RBDError(.asking("the lock"), Errno(-result)) }
    }

    /// Takes the lock from `owner`, of whom the cluster takes nothing from then on.
    package func breakLock(of owner: String) throws(RBDError) {
        let result = unsafe causeway_rbd_break(raw, owner)
        // It gave it up by itself meanwhile.
        if result < 0 && result != -Errno.noSuchFile.rawValue { throw RBDError(.breaking(owner: owner), Errno(-result)) }
    }

    /// Requests wait for the cluster from now on, however long it is away: a time limit would lose the lock, and fail a
    /// write that is done all the same.
    package func waitForEver() {
        for option in ["rados_osd_op_timeout", "rados_mon_op_timeout"] { _ = unsafe causeway_rbd_set(raw, option, "0") }
    }

    /// How often somebody has changed the image; does not block.
    package var changes: UInt64 { unsafe causeway_rbd_changes(raw) }

    // MARK: Requests. Each begins, and is reaped; or it does not, which is its error.

    /// Reads from `offset` on.
    package func read(_ transfer: RBDTransfer, at offset: UInt64) -> Errno? {
        guard transfer.prepareBuffer(), let buffer = transfer.buffer else { return .noMemory }
        let count = Int(transfer.vectors.total)
        return unsafe begin(transfer) { unsafe causeway_rbd_read(raw, offset, buffer.bytes(from: 0, count: count), count, $0) }
    }

    /// Writes from `offset` on.
    package func write(_ transfer: RBDTransfer, at offset: UInt64) -> Errno? {
        let vectors = transfer.vectors
        return unsafe begin(transfer) { unsafe causeway_rbd_write(raw, offset, vectors.vectors, Int32(clamping: vectors.left), $0) }
    }

    /// Waits for the writes that have begun.
    package func flush(_ transfer: RBDTransfer) -> Errno? { unsafe begin(transfer) { unsafe causeway_rbd_flush(raw, $0) } }

    /// Discards what can be, in `byteCount` bytes from `offset` on.
    package func discard(_ transfer: RBDTransfer, at offset: UInt64, byteCount: UInt64) -> Errno? {
        unsafe begin(transfer) { unsafe causeway_rbd_discard(raw, offset, byteCount, $0) }
    }

    /// Makes `byteCount` bytes zero from `offset` on.
    package func zero(_ transfer: RBDTransfer, at offset: UInt64, byteCount: UInt64, keepsRoom: Bool) -> Errno? {
        unsafe begin(transfer) { unsafe causeway_rbd_zero(raw, offset, byteCount, keepsRoom ? 1 : 0, $0) }
    }

    private func begin(_ transfer: RBDTransfer, _ begin: (UnsafeMutableRawPointer) -> Int32) -> Errno? {
        let reference = unsafe Unmanaged.passRetained(transfer)
        let result = unsafe begin(reference.toOpaque())
        if result < 0 {
            unsafe reference.release()
            return Errno(-result)
        }
        outstanding += 1
        return nil
    }

    /// Takes back what has ended; true if something has. A result is the bytes that were read, or 0, or a negative
    /// error number.
    package func reap(_ body: (RBDTransfer, Int64) -> Void) -> Bool {
        guard outstanding > 0 else { return false }
        var hasAny = false
        while true {
            let count = unsafe causeway_rbd_reap(raw, done, Int32(Self.places))
            if count <= 0 { return hasAny }
            hasAny = true
            outstanding -= Int(count)
            for index in 0..<Int(count) {
                let ended = unsafe done[index]
                guard let argument = unsafe ended.argument else { continue }
                body(unsafe Unmanaged<RBDTransfer>.fromOpaque(argument).takeRetainedValue(), unsafe ended.result)
            }
        }
    }

    /// Forgets what has been rung so far; `reap` comes after it.
    package func quietBell() { _ = bell.takeCount() }
}

/// An image that nobody has any more.
///
/// SAFETY: as of `RBDImage`, whose handle it takes over.
@safe
private struct LeavingImage: @unchecked Sendable {
    let raw: OpaquePointer
    let bell: Descriptor
    var outstanding: Int

    init(raw: OpaquePointer, bell: Descriptor, outstanding: Int) {
        unsafe self.raw = raw
        self.bell = bell
        self.outstanding = outstanding
    }

    /// Closes it, beside the caller.
    func leave() {
        causeway_rbd_will_close()
        let isStarted: Void? = try? startDetachedThread(name: "rbd-close") {
            var image = self
            image.close()
            causeway_rbd_did_close()
        }
        // Its lock stays until the process ends.
        if isStarted == nil { causeway_rbd_did_close() }
    }

    private mutating func close() {
        var done = unsafe causeway_rbd_done()
        while outstanding > 0 {
            guard unsafe causeway_rbd_reap(raw, &done, 1) == 1 else {
                // A second in case another took what was rung.
                _ = try? waitReadable(bell.rawValue, milliseconds: 1000)
                _ = bell.takeCount()
                continue
            }
            outstanding -= 1
            if let argument = unsafe done.argument { unsafe Unmanaged<RBDTransfer>.fromOpaque(argument).release() }
        }
        unsafe causeway_rbd_close(raw)
    }
}
