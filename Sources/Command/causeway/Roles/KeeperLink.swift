// The way from the process that serves an export to the one that keeps what it needs. What is sent is kept from then
// on, even if this process ends the moment after: it lies in the socket until it is read.

import CommandSupport
import Glibc
import LinuxSystem
import Reactor
import SharedMemory
import Synchronization
import VhostUser

/// One end of it, in the process that serves.
final class KeeperLink: Sendable {
    /// What this process has it as.
    private static let number: Int32 = 3

    /// Whom messages name.
    let user: String
    private let socket: Descriptor
    private let state: Mutex<State>
    /// Of the process before this one: what each device has.
    let devices: [String: KeptPage]
    /// The signal that ended the process before this one; 0: it has not ended.
    let signal: Int32
    /// Of the process before this one: what its controllers have, by name.
    let controllers: [String: Descriptor]

    private struct State {
        var next: Int32
        /// What is kept, and how many records name it.
        var held: [Int32: (descriptor: Descriptor, users: Int)] = [:]
        var numbers: [ObjectIdentifier: Int32] = [:]
        var lock: Descriptor?
        /// The same, locked by this process.
        var ownLock: Descriptor?
        var asker: (descriptor: Descriptor, heldAt: UInt64)?
        /// What was said when every device was served.
        var variables: [String: String]?
        /// Whether it is known what is used of that which was kept.
        var isSettled = false
    }

    /// Asks for everything that is kept.
    init(for user: String) throws(Failure) {
        self.user = user
        socket = Descriptor(owning: Self.number)
        socket.closeOnExec()
        var hasTurn = false
        do throws(Errno) {
            _ = try ChildProcess.followParent(try PacketSocket.peerProcess(socket))
            try PacketSocket.send(socket, KeeperMessage.hello.bytes)
            var (devices, ended): ([String: KeptPage], Int32) = ([:], 0)
            var controllers: [String: Descriptor] = [:]
            var state = State(next: 0)
            while true {
                let (bytes, descriptors) = try PacketSocket.receive(socket, descriptors: 1)
                if bytes.isEmpty { throw Errno.connectionReset }
                hasTurn = true
                if case .end(let next, let signal) = KeeperMessage(bytes) {
                    (state.next, ended) = (next, signal)
                    break
                }
                guard case .have(let number, let name) = KeeperMessage(bytes), let descriptor = descriptors.first else { continue }
                state.held[number] = (descriptor, 0)
                state.numbers[ObjectIdentifier(descriptor)] = number
                if name.hasPrefix(KeeperMessage.Name.page) {
                    devices[String(name.dropFirst(KeeperMessage.Name.page.count))] = try KeptPage(descriptor)
                } else if name.hasPrefix(KeeperMessage.Name.asker) {
                    state.asker = (descriptor, UInt64(name.dropFirst(KeeperMessage.Name.asker.count)) ?? 0)
                } else if name.hasPrefix(KeeperMessage.Name.controller) {
                    controllers[name] = descriptor
                } else if name == KeeperMessage.Name.lock {
                    state.lock = descriptor
                    state.held[number]?.users = 1
                }
            }
            (self.devices, self.controllers, signal) = (devices, controllers, ended)
            self.state = Mutex(state)
        } catch {
            // A spare one is let go without a word when its keeper has ended.
            throw hasTurn || error != .connectionReset ? Failure("\(user): whoever keeps its descriptors: \(error)") : .silent(1)
        }
    }

    /// Whoever asked for an upgrade and waits for its end, and when that began; once.
    func takeAsker() -> (descriptor: Descriptor, heldAt: UInt64)? { state.withLock { $0.asker.take() } }

    /// Everything that has come.
    var received: [Int32: Descriptor] { state.withLock { $0.held.mapValues(\.descriptor) } }

    /// The number by which a descriptor is kept, which counts as one more user of it.
    func use(_ descriptor: Descriptor, name: String = "") throws(Errno) -> Int32 {
        try state.withLock { (state: inout State) throws(Errno) in
            if let number = state.numbers[ObjectIdentifier(descriptor)] {
                state.held[number]?.users += 1
                return number
            }
            let number = state.next
            try PacketSocket.send(socket, KeeperMessage.hold(number, name: name).bytes, [descriptor])
            state.next += 1
            state.held[number] = (descriptor, 1)
            state.numbers[ObjectIdentifier(descriptor)] = number
            return number
        }
    }

    /// One user fewer of each; what has none is kept no longer.
    func release(_ numbers: [Int32]) {
        state.withLock { state in
            for number in numbers { state.held[number]?.users -= 1 }
            drop(&state)
        }
    }

    /// Has everything dropped that nobody uses: what a predecessor had and this process has not gone on with.
    func settle() {
        state.withLock { state in
            state.isSettled = true
            drop(&state)
        }
    }

    private func drop(_ state: inout State) {
        guard state.isSettled else { return }
        let unused = state.held.filter { $0.value.users <= 0 }
        if unused.isEmpty { return }
        for (number, entry) in unused {
            state.held[number] = nil
            state.numbers[ObjectIdentifier(entry.descriptor)] = nil
        }
        try? PacketSocket.send(socket, KeeperMessage.drop(unused.keys.sorted()).bytes)
    }

    /// Every device is served.
    func ready(_ variables: [String: String]) {
        state.withLock { $0.variables = variables }
        let program = (try? Executable.path()) ?? ""
        try? PacketSocket.send(socket, KeeperMessage.ready(program: program, variables: variables).bytes)
    }

    /// Becomes another program, which finds with the keeper what it needs. Returns only to fail.
    func succeed(
        _ program: String, _ arguments: [String], _ asker: Descriptor, _ heldAt: UInt64
    ) throws(Failure) {
        let number: Int32
        do throws(Errno) { number = try use(asker, name: "\(KeeperMessage.Name.asker)\(heldAt)") } catch {
            throw Failure("whoever keeps its descriptors: \(error)")
        }
        let error = ChildProcess.succeed(program: program, arguments: arguments, keeping: [socket])
        release([number])
        if let variables = state.withLock(\.variables) { ready(variables) }
        throw Failure("\(program): \(error)")
    }
}

extension KeeperLink {
    private static let lockPatienceMilliseconds: Int64 = 5000

    /// Waits until nothing is under way any more that a predecessor began on a disk, and has the next process wait for
    /// these reactors likewise: each of their rings has the locked file open until its last request has ended, though
    /// the process may be gone before.
    func waitForPredecessor(_ reactors: [Reactor]) throws(Failure) {
        do throws(Errno) {
            // This process has it since its first reactors: what these began is over.
            if let own = state.withLock(\.ownLock) { return hold(own, reactors) }
            let lock = try lock()
            // The lock is the open file's, so each process opens it anew.
            let own = try Descriptor.open("/proc/self/fd/\(lock.rawValue)", O_RDWR)
            let time = SystemTime()
            let end = time.milliseconds + Self.lockPatienceMilliseconds
            var hasSaid = false
            while true {
                do throws(Errno) {
                    try own.lock(shared: false)
                    break
                } catch {
                    guard error == .wouldBlock else { throw error }
                    if !hasSaid, time.milliseconds > end {
                        hasSaid = true
                        complain("\(user): waits for requests of the process before this one, which the kernel has not ended")
                    }
                    time.sleep(milliseconds: 1)
                }
            }
            hold(own, reactors)
        } catch { throw Failure("\(user): the lock of whoever serves: \(error)") }
    }
    private func lock() throws(Errno) -> Descriptor {
        if let known = state.withLock(\.lock) { return known }
        let lock = try SealedMemory("export-lock", byteCount: SharedRegion.pageSize, final: true).descriptor
        _ = try use(lock, name: KeeperMessage.Name.lock)
        return lock
    }

    private func hold(_ own: Descriptor, _ reactors: [Reactor]) {
        state.withLock { $0.ownLock = own }
        for reactor in reactors { reactor.run { _ = reactor.addFile(own) } }
    }
}
