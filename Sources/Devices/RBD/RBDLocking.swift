// One writer: who has an image's lock, and what is done about it.

import BlockDevices
import LibRBD
import LinuxSystem

/// How an image comes to be ours alone.
struct RBDLocking {
    /// For messages.
    private let name: String
    /// By which it is found in the record.
    private let key: String
    private let options: RBDOptions
    private let log: @Sendable (String) -> Void

    init(_ target: RBDTarget, cluster: String, _ options: RBDOptions, _ log: @escaping @Sendable (String) -> Void) {
        name = "\(target)"
        let words = "\(cluster)/\(target)".unicodeScalars.map { $0.properties.isWhitespace ? "\u{FFFD}" : $0 }
        key = String(String.UnicodeScalarView(words))
        self.options = options
        self.log = log
    }

    /// Takes the lock: from whoever was left behind, and from nobody else unless that is asked for. Blocks.
    /// - Throws: `away` if somebody who lives has it.
    func lock(_ image: RBDImage) throws(DeviceError) {
        note { (record) throws(Errno) in try record.add(image.address, of: key) }
        // Between a look and the lock there may be others, each of whom is as fast.
        for _ in 0..<8 {
            do throws(DeviceError) {
                if let owner = try ask({ () throws(RBDError) in try image.owner() }), owner != image.address {
                    try passBy(owner, image)
                }
            } catch {
                note { (record) throws(Errno) in try record.forget(image.address, of: key) }
                throw error
            }
            do throws(RBDError) { try image.takeLock() } catch {
                if error.number == .readOnlyFileSystem { continue }
                throw DeviceError(error, of: name)
            }
            // As it stands there, should that be written another way.
            let address = try ask { () throws(RBDError) in try image.owner() } ?? image.address
            return note { (record) throws(Errno) in try record.settle(address, of: key) }
        }
        throw .away(name: name, reason: "others take its lock again and again")
    }

    /// Sees to it that the lock can be had although `owner` has it.
    private func passBy(_ owner: String, _ image: RBDImage) throws(DeviceError) {
        if RBDOwnAddresses.has(owner) { throw .cluster(name: name, reason: "another disk of this process has it", .busy) }
        let words: String
        if options.record?.knows(owner, of: key) == true {
            words = "its lock is taken from a predecessor that was killed (\(owner))"
        } else if options.takesOver {
            words = "it is taken over from \(owner)"
        } else if try ask({ () throws(RBDError) in try image.isOpen(by: owner) }) {
            throw .away(
                name: name,
                reason:
                    "\(owner) has its lock; a client that was killed keeps it for half a minute (--take-over takes it from a living one)"
            )
        } else {
            // Missed by the cluster already: librbd takes it by itself.
            return
        }
        try ask { () throws(RBDError) in try image.breakLock(of: owner) }
        log("\(name): \(words), from whom the cluster takes nothing any more")
    }

    private func ask<R>(_ body: () throws(RBDError) -> R) throws(DeviceError) -> R {
        do throws(RBDError) { return try body() } catch { throw DeviceError(error, of: name) }
    }

    /// Without a record a killed predecessor is waited for; that is said.
    private func note(_ body: (RBDLockRecord) throws(Errno) -> Void) {
        guard let record = options.record else { return }
        do throws(Errno) { try body(record) } catch {
            log(
                "\(name): who has its lock cannot be noted (\(error)): a successor of this process waits until the cluster misses it"
            )
        }
    }
}

extension DeviceError {
    /// What a cluster says of the disk `name`.
    init(_ error: RBDError, of name: String) {
        self = error.mayPass ? .away(name: name, reason: "\(error)") : .cluster(name: name, reason: "\(error)", error.number)
    }
}
