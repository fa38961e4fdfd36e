// The queue that a controller is set up by. One command at a time, and its caller waits: none of them is on the way of
// a request.

import DMA
import LinuxSystem
import SharedMemory

/// The admin queues and a page for what a controller says of itself.
struct AdminQueue: ~Copyable {
    private var rings: QueueRings
    private let port: any NVMePort
    private let time: any TimeSource
    private var nextIdentifier: UInt16 = 0

    /// How long a command may take.
    static let milliseconds = 60_000
    /// Between two looks.
    private static let pauseNanoseconds: UInt64 = 100_000

    init(_ rings: consuming QueueRings, _ port: any NVMePort, _ time: any TimeSource) {
        self.rings = rings
        self.port = port
        self.time = time
    }

    var entries: (submission: Int, completion: Int) { (rings.submissionEntries, rings.completionEntries) }
    var addresses: (submission: DeviceAddress, completion: DeviceAddress) { (rings.submissionAddress, rings.completionAddress) }
    /// Where a command puts what it answers.
    var page: DeviceAddress { rings.listAddress(0) }

    /// The controller has been reset.
    mutating func clear() { rings.clear() }

    /// Gives a command and waits for its end; its first dword.
    /// - Parameter what: for the error.
    @discardableResult
    mutating func perform(
        _ command: NVMeCommand, _ what: String, milliseconds: Int = Self.milliseconds
    ) throws(NVMeError) -> UInt32 {
        var command = command
        nextIdentifier = nextIdentifier &+ 1 & 0x7FFF
        command.identifier = nextIdentifier
        rings.push(command)
        rings.ring(port)
        let deadline = time.deadline(milliseconds: milliseconds)
        while true {
            while let completion = rings.next() {
                rings.acknowledge(port)
                // A late one, of a command that was given up.
                guard completion.identifier == command.identifier else { continue }
                guard completion.status.isSuccess else { throw .command(what, completion.status) }
                return completion.result
            }
            let status = port.load(NVMeRegister.status)
            if status == NVMeRegister.gone { throw .gone }
            if status & NVMeRegister.Status.fatal != 0 { throw .fatal }
            guard time.nanoseconds < deadline else { throw .unanswered(what, milliseconds: milliseconds) }
            time.sleep(nanoseconds: Self.pauseNanoseconds)
        }
    }

    /// A command that answers with a page.
    mutating func page(_ what: NVMeCommand.Identify, _ namespace: UInt32, _ name: String) throws(NVMeError) -> [UInt8] {
        rings.region.fill(rings.listOffset(0), count: QueueRings.page)
        try perform(.identify(what, namespace: namespace, into: page), name)
        return rings.region.bytes(at: rings.listOffset(0), count: QueueRings.page)
    }
}
