// libFuzzer target for the NBD server: a client that says anything.
//
// The input is a byte for the handshake and a list of elements. Bits 0 and 1 of the first byte: chunks or none, and
// whether an export is chosen properly before the rest. Each element is a byte: a request whose fields the input gives,
// with the bytes of a write or with fewer; an option; raw bytes; a pause in which answers are taken. Then the client
// hangs up. What must hold: no trap; all that the client had of the buffer is free, no write counts as under way, no
// descriptor stays open; and a client that behaves is served as if nothing had been.

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import FuzzSupport
import InProcess
import Reactor
import Toolstack
import XenTypes

@testable import LinuxSystem
@testable import NBDServer

/// A disk of 1 MiB in this process, and its server; made once.
private final class World: @unchecked Sendable {
    // SAFETY: libFuzzer calls from one thread.
    let server: NBDServer
    private let kept: [any Sendable]

    init() throws {
        let host = InProcessHost(time: .system)
        let (driver, guest) = (host.domain(0), host.domain(1))
        _ = try DeviceDirectories(store: driver.connectStore()).create(
            .init(try DiskSpecification(parsing: "any,raw,xvda,w"), frontend: DomainID(1)))
        let service = BlockBackendService(
            hypervisor: driver, openDisk: { (_) throws(DeviceOpenFailure) in NullDisk(byteCount: 1 << 20) })
        let thread = try WorkerThread(name: "backend") { try? service.run() }
        var options = BlockFrontendOptions()
        options.bufferPages = NBDServer.leastBufferPages
        options.depth = 64
        let frontend = try BlockFrontend(hypervisor: guest, device: 51712, options: options)
        try frontend.connect(timeoutMilliseconds: 5000)
        server = NBDServer(on: try Reactor(name: "nbd", time: SystemTime()))
        try server.start(try frontend.takeQueue(0), [])
        kept = [service, thread, frontend]
    }

    /// A new client's end.
    func connect() throws -> Descriptor {
        let (near, far) = try StreamSocket.pair()
        server.adopt(far)
        return near
    }
}

private let world = try? World()

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    guard let world else { fatalError("no disk to fuzz on") }
    var input = ByteReader(bytes, count)
    let open = Descriptor.openCount
    do {
        let client = try world.connect()
        try play(&input, on: client)
    } catch {
        // The server has hung up: that is its right.
    }
    settle(world)
    precondition(Descriptor.openCount == open, "a descriptor stays open")
    return 0
}

/// Waits until the server has done with the client, and looks at what it left.
private func settle(_ world: World) {
    let end = SystemTime().milliseconds + 5000
    while world.server.census().sessions > 0 {
        precondition(SystemTime().milliseconds < end, "a client that has hung up is still there")
        SystemTime().sleep(milliseconds: 0)
    }
    let census = world.server.census()
    precondition(census.freePages == NBDServer.leastBufferPages, "pages of the buffer are lost")
    precondition(census.writes == 0 && census.flights == 0, "something counts as under way")
}

private func play(_ input: inout ByteReader, on client: Descriptor) throws(Errno) {
    let shape = input.byte()
    var begin: [UInt8] = [0, 0, 0, 3]
    if shape & 1 != 0 { begin += option(8, []) }
    if shape & 2 == 0 { begin += option(7, [0, 0, 0, 0, 0, 0]) }
    try send(begin, to: client)
    while !input.isAtEnd {
        let kind = input.byte()
        switch kind & 7 {
        case 0...4: try send(request(kind, &input), to: client)
        case 5: try send(option(UInt32(input.byte() & 15), some(&input)), to: client)
        case 6: try send(some(&input), to: client)
        default: take(from: client)
        }
    }
}

private func some(_ input: inout ByteReader) -> [UInt8] { (0..<Int(input.byte() & 63)).map { _ in input.byte() } }

/// A request whose numbers lie near the disk's edges, or anywhere.
private func request(_ kind: UInt8, _ input: inout ByteReader) -> [UInt8] {
    let (command, flags, place, length) = (input.byte(), input.byte(), input.number(UInt16.self), input.number(UInt16.self))
    var offset = UInt64(place) << 4
    if kind & 8 != 0 { offset &+= UInt64(input.byte()) }
    if kind & 16 != 0 { offset = ~offset }
    var count = UInt32(length)
    if kind & 32 != 0 { count <<= 4 }
    if kind & 64 != 0 { count = ~count }
    let isWrite = command & 7 == 1
    var bytes: [UInt8] = []
    put(UInt64(NBDMagic.request), 4, &bytes)
    put(UInt64(flags), 2, &bytes)
    put(UInt64(command & 7), 2, &bytes)
    put(UInt64(input.byte()), 8, &bytes)
    put(offset, 8, &bytes)
    put(UInt64(count), 4, &bytes)
    // One in some has fewer bytes than it says: what follows is taken for them.
    if isWrite { bytes += [UInt8](repeating: command, count: kind & 128 != 0 ? Int(min(count, 100)) : Int(min(count, 1 << 18))) }
    return bytes
}

private func option(_ number: UInt32, _ data: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    put(NBDMagic.option, 8, &bytes)
    put(UInt64(number), 4, &bytes)
    put(UInt64(data.count), 4, &bytes)
    return bytes + data
}

private func put(_ number: UInt64, _ count: Int, _ bytes: inout [UInt8]) {
    for shift in (0..<count).reversed() { bytes.append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(shift)))) }
}

/// Sends all of it, and takes answers where there is no room.
private func send(_ bytes: [UInt8], to client: Descriptor) throws(Errno) {
    var rest = bytes[...]
    while !rest.isEmpty {
        do throws(Errno) { rest = rest.dropFirst(try StreamSocket.send(client.rawValue, rest, wait: false)) } catch {
            guard error == .wouldBlock else { throw error }
            take(from: client)
        }
    }
}

private func take(from client: Descriptor) {
    while let bytes = try? StreamSocket.receive(client.rawValue, capacity: 1 << 16, wait: false), !bytes.isEmpty {}
}
