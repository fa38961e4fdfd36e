// A disk under a backend, its frontend, and an NBD server on it, all in this process; and a client that writes what a
// test likes.

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import Foundation
import HypervisorRules
import InProcess
import LinuxSystem
import Reactor
import Synchronization
import TestSupport
import Testing
import Toolstack
import XenTypes

@testable import NBDServer

/// The rig.
final class NBDRig {
    let frontend: BlockFrontend<InProcessHypervisor>
    let server: NBDServer
    let socket: String
    private let scratch: TemporaryDirectory
    private let service: BlockBackendService<InProcessHypervisor>
    private let thread: WorkerThread
    private let isStopped = Mutex(false)

    /// - Parameters:
    ///   - device: what the backend serves.
    ///   - access: `w` or `r`.
    ///   - handshakeSeconds: a client's time to choose an export.
    init(
        _ device: @escaping @Sendable () throws(DeviceError) -> any BlockDevice, access: String = "w", handshakeSeconds: UInt64 = 10
    ) throws {
        scratch = try TemporaryDirectory()
        socket = scratch.path + "/nbd.sock"
        let host = InProcessHost(time: .system)
        let (driver, guest) = (host.domain(0), host.domain(1))
        _ = try DeviceDirectories(store: driver.connectStore()).create(
            .init(try DiskSpecification(parsing: "any,raw,xvda,\(access)"), frontend: DomainID(1)))
        let service = BlockBackendService(
            hypervisor: driver,
            openDisk: { (_) throws(DeviceOpenFailure) in
                do throws(DeviceError) { return try device() } catch { throw DeviceOpenFailure(.noSuchFile, error.description) }
            })
        self.service = service
        thread = try WorkerThread(name: "backend") { try? service.run() }
        var options = BlockFrontendOptions()
        options.depth = 256
        options.bufferPages = NBDServer.leastBufferPages
        frontend = try BlockFrontend(hypervisor: guest, device: 51712, options: options)
        try frontend.connect(timeoutMilliseconds: 5000)
        var served = NBDServer.Options()
        served.name = "xvda"
        served.handshakeSeconds = handshakeSeconds
        server = NBDServer(on: try Reactor(name: "nbd", time: SystemTime()), served)
        try server.start(try frontend.takeQueue(0), [try StreamSocket.listen(path: socket)])
    }

    /// A file of zeroes, or of what is given.
    convenience init(byteCount: UInt64 = 4 << 20, access: String = "w") throws {
        let scratch = try TemporaryDirectory()
        let path = try scratch.file(byteCount: byteCount)
        try self.init(
            { () throws(DeviceError) in
                defer { withExtendedLifetime(scratch) {} }
                return try FileDisk(path: path, readOnly: access == "r")
            }, access: access)
    }

    func stop() {
        guard
            isStopped.withLock({ was in
                let now = was; was = true; return !now
            })
        else { return }
        server.stop(milliseconds: 1000)
        frontend.close()
        service.stop()
        thread.join()
    }

    deinit { stop() }

    func client() throws -> NBDClient { try NBDClient(socket) }
}

/// A client made by hand: it says what a test wants said.
final class NBDClient {
    let socket: Descriptor
    private(set) var isStructured = false
    private var lastCookie: UInt64 = 0

    init(_ path: String) throws {
        socket = try StreamSocket.connect(path: path)
        try socket.setTimeout(SO_RCVTIMEO, seconds: 10)
        #expect(try receive(18) == NBDHandshake.greeting)
    }

    func send(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty { rest = rest.dropFirst(try StreamSocket.send(socket.rawValue, rest, wait: true)) }
    }

    /// Exactly so many bytes; fewer at the end of the connection.
    func receive(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try StreamSocket.receive(socket.rawValue, capacity: count - bytes.count, wait: true)
            if more.isEmpty { return bytes }
            bytes += more
        }
        return bytes
    }

    /// Whether the server has ended the connection.
    func isEnded() throws -> Bool { try receive(1).isEmpty }

    // MARK: Handshake

    static func option(_ number: UInt32, _ data: [UInt8]) -> [UInt8] {
        var writer = BigEndianWriter()
        writer.put(NBDMagic.option)
        writer.put(number)
        writer.put(UInt32(data.count))
        return writer.bytes + data
    }

    static func goData(_ name: String, _ wants: [UInt16] = []) -> [UInt8] {
        var writer = BigEndianWriter()
        writer.put(UInt32(name.utf8.count))
        writer.bytes += name.utf8
        writer.put(UInt16(wants.count))
        for one in wants { writer.put(one) }
        return writer.bytes
    }

    /// One answer to an option.
    func answer() throws -> (kind: UInt32, data: [UInt8]) {
        var reader = BigEndianReader(try receive(20))
        let magic: UInt64? = reader.take()
        #expect(magic == NBDMagic.optionReply)
        let _: UInt32? = reader.take()
        let (kind, count): (UInt32?, UInt32?) = (reader.take(), reader.take())
        return (try #require(kind), try receive(Int(try #require(count))))
    }

    /// Chooses the default export.
    func begin(structured: Bool = false) throws {
        try send([0, 0, 0, 3])
        if structured {
            try send(Self.option(NBDOption.structuredReply.rawValue, []))
            #expect(try answer().kind == NBDOptionReply.acknowledge.rawValue)
            isStructured = true
        }
        try send(Self.option(NBDOption.go.rawValue, Self.goData("")))
        while case let answer = try answer(), answer.kind != NBDOptionReply.acknowledge.rawValue {
            try #require(answer.kind == NBDOptionReply.info.rawValue)
        }
    }

    // MARK: Requests

    static func request(
        _ command: UInt16, flags: NBDCommandFlags = [], cookie: UInt64, offset: UInt64, byteCount: UInt32,
        magic: UInt32 = NBDMagic.request
    ) -> [UInt8] {
        var writer = BigEndianWriter()
        writer.put(magic)
        writer.put(flags.rawValue)
        writer.put(command)
        writer.put(cookie)
        writer.put(offset)
        writer.put(byteCount)
        return writer.bytes
    }

    /// Sends a request; its cookie.
    @discardableResult
    func ask(
        _ command: NBDCommand, flags: NBDCommandFlags = [], at offset: UInt64 = 0, count: Int = 0, data: [UInt8] = []
    ) throws -> UInt64 {
        lastCookie += 1
        try send(
            Self.request(command.rawValue, flags: flags, cookie: lastCookie, offset: offset, byteCount: UInt32(count)) + data)
        return lastCookie
    }

    /// The next reply. A read's data are received where `reads` says how many there are.
    func reply(_ reads: (UInt64) -> Int = { _ in 0 }) throws -> (cookie: UInt64, error: UInt32, data: [UInt8]) {
        if !isStructured {
            var reader = BigEndianReader(try receive(16))
            let magic: UInt32? = reader.take()
            try #require(magic == NBDMagic.simpleReply)
            let (error, cookie): (UInt32?, UInt64?) = (reader.take(), reader.take())
            return (try #require(cookie), try #require(error), error == 0 ? try receive(reads(try #require(cookie))) : [])
        }
        var reader = BigEndianReader(try receive(20))
        let (magic, flags, kind): (UInt32?, UInt16?, UInt16?) = (reader.take(), reader.take(), reader.take())
        let (cookie, count): (UInt64?, UInt32?) = (reader.take(), reader.take())
        try #require(magic == NBDMagic.structuredReply && flags == 1)
        let body = try receive(Int(try #require(count)))
        var content = BigEndianReader(body)
        if kind == 1 {
            let _: UInt64? = content.take()
            return (try #require(cookie), 0, Array(body.dropFirst(8)))
        }
        let error: UInt32? = kind == 0 ? 0 : content.take()
        return (try #require(cookie), try #require(error), [])
    }

    /// Asks and waits for the answer.
    @discardableResult
    func perform(
        _ command: NBDCommand, flags: NBDCommandFlags = [], at offset: UInt64 = 0, count: Int = 0, data: [UInt8] = []
    ) throws -> (error: UInt32, data: [UInt8]) {
        let cookie = try ask(command, flags: flags, at: offset, count: count, data: data)
        let reply = try reply { _ in command == .read ? count : 0 }
        try #require(reply.cookie == cookie)
        return (reply.error, reply.data)
    }
}
