// A pair from its first process to its last. One thread: it starts and reaps every process, so that "ends with its parent" (which the
// kernel ties to the starting thread) holds, and so that there is nothing to lock.

import Glibc
import Toolstack
import XenStore
import XenWire

struct PairSession: ~Copyable {
    let directory: PairDirectory
    let features: BlockFeatures
    let vifFeatures: VifFeatures
    let threads: ReactorOptions
    /// Milliseconds that a disk may take.
    let connectTimeout: Int
    let isQuiet: Bool
    let machineSeed: UInt64
    let keepsJournals: Bool

    var host: ChildProcess?
    var backend: ChildProcess?
    var restarts = RestartPolicy()
    var disks: [PairedDisk] = []
    var vifs: [PairedVif] = []
    var store: StoreClient?
    private var command: ChildProcess?

    init(
        directory: PairDirectory, features: BlockFeatures, vifFeatures: VifFeatures, threads: ReactorOptions, connectTimeout: Int,
        isQuiet: Bool, machineSeed: UInt64, keepsJournals: Bool
    ) {
        self.vifFeatures = vifFeatures
        self.threads = threads
        self.directory = directory
        self.features = features
        self.connectTimeout = connectTimeout
        self.isQuiet = isQuiet
        self.machineSeed = machineSeed
        self.keepsJournals = keepsJournals
    }

    /// Runs everything; the exit status.
    consuming func run(
        _ specifications: [DiskSpecification], _ interfaces: [VifSpecification], command arguments: [String]
    ) -> Int32 {
        var status: Int32
        do {
            try startHost()
            try startBackend()
            for specification in specifications { try attach(specification) }
            for interface in interfaces { try attach(interface) }
            status = try arguments.isEmpty ? runUntilInterrupted() : runCommand(arguments)
        } catch {
            if let message = error.message { complain(message) }
            status = error.status
        }
        tearDown()
        return status
    }

    func say(_ line: String) { if !isQuiet { printLine(line) } }

    // Starting.

    private mutating func startHost() throws(Failure) {
        let host = try ChildProcess.startRole(["host", "--machine-seed", "\(machineSeed)"], in: directory.run)
        self.host = host
        let end = ContinuousClock.now + .milliseconds(connectTimeout)
        while !UnixSocket.isListening(at: directory.run.storeSocket) {
            if let status = host.reap() {
                self.host = nil
                throw Failure("pair: the host \(status)")
            }
            guard ContinuousClock.now < end else {
                throw Failure(
                    "pair: waiting for the host to open \(directory.run.storeSocket): nothing after \(connectTimeout) ms"
                )
            }
            try checkInterruption(milliseconds: 2)
        }
        store = try directory.run.connectStore()
    }

    mutating func startBackend() throws(Failure) {
        let journal = keepsJournals ? ["--journal", directory.journal] : []
        let arguments = journal + features.arguments + vifFeatures.arguments + threads.arguments
        backend = try ChildProcess.startRole(["backend"] + arguments, in: directory.run)
        restarts.started()
    }

    private mutating func attach(_ disk: DiskSpecification) throws(Failure) {
        guard let store else { return }
        let devices = DeviceDirectories(store: store)
        let domain = try GuestDomain.create(name: "guest", in: directory.run, store: store)
        let paths: DevicePaths
        do {
            paths = try devices.create(
                .init(disk, frontend: domain, physicalDevice: BlockTarget.physicalDevice(of: disk)))
        } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: store)
            throw Failure("pair: \(error)")
        }
        let socket = directory.socket(of: disk.vdev.name)
        disks.append(PairedDisk(specification: disk, domain: domain, paths: paths, socket: socket))
        let index = disks.count - 1
        disks[index].frontend = try ChildProcess.startRole(
            ["frontend", "vbd", disk.vdev.name, "--nbd", socket, "--domain", "\(domain)"] + features.arguments,
            in: directory.run)
        try waitConnected(index, devices)
        say(disks[index].line)
    }

    /// Waits for both sides and for the NBD socket, while children that end are looked after.
    private mutating func waitConnected(_ index: Int, _ devices: DeviceDirectories) throws(Failure) {
        let disk = disks[index]
        let end = ContinuousClock.now + .milliseconds(connectTimeout)
        while true {
            try checkInterruption(milliseconds: 0)
            guard disks[index].frontend != nil else {
                throw Failure("pair: \(disk.name): its frontend ended before it was connected")
            }
            do {
                try devices.waitConnected(disk.paths, milliseconds: 50)
                break
            } catch .timedOut(let step, let seen, _) {
                guard ContinuousClock.now < end else {
                    throw Failure("pair: \(disk.name): \(step): not done after \(connectTimeout) ms (\(seen))")
                }
            } catch { throw Failure("pair: \(disk.name): \(error)") }
        }
        while !UnixSocket.isListening(at: disk.socket) {
            try checkInterruption(milliseconds: 2)
            guard disks[index].frontend != nil else { throw Failure("pair: \(disk.name): its frontend ended") }
            guard ContinuousClock.now < end else {
                throw Failure(
                    "pair: \(disk.name): waiting for \(disk.socket) to open: nothing after \(connectTimeout) ms")
            }
        }
    }

    // Running.

    /// What COMMAND sees.
    private var variables: [String: String] {
        var variables = ["CAUSEWAY_RUN_DIR": directory.run.path, "XENSTORED_PATH": directory.run.storeSocket]
        for disk in disks { variables[disk.variable] = disk.uri }
        variables["uri"] = disks.first?.uri
        for vif in vifs { variables.merge(vif.variables) { $1 } }
        return variables
    }

    private mutating func runCommand(_ arguments: [String]) throws(Failure) -> Int32 {
        // At a terminal the command stays in our group, or it could not read from it; elsewhere it gets a group of its own, so that
        // what it starts can be ended with it.
        let child = try ChildProcess.start(arguments, adding: variables, ownGroup: isatty(0) == 0)
        command = child
        var isAsked = false
        while true {
            if let status = child.reapWithGroup() {
                command = nil
                return status.shellStatus
            }
            let wait = restarts.isPending ? 5 : 1000
            if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: wait), signal != SIGCHLD {
                child.signal(isAsked ? SIGKILL : signal)
                isAsked = true
            }
            try lookAfterChildren()
        }
    }

    private mutating func runUntilInterrupted() throws(Failure) -> Int32 {
        while true {
            let wait = restarts.isPending ? 5 : 1000
            let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: wait)
            if let signal, signal != SIGCHLD { return 0 }
            try lookAfterChildren()
        }
    }

    /// Ends the start-up when a signal asks for it.
    mutating func checkInterruption(milliseconds: Int) throws(Failure) {
        if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: milliseconds),
            signal != SIGCHLD
        {
            throw .silent(128 + signal)
        }
        try lookAfterChildren()
    }

    // Ending: what was started last ends first.

    private mutating func tearDown() {
        command?.stop(milliseconds: 2000)
        endVifs()
        for index in disks.indices.reversed() {
            // One whose frontend ended before was released then.
            guard let frontend = disks[index].frontend else { continue }
            frontend.stop(milliseconds: 5000)
            disks[index].frontend = nil
            release(disks[index])
        }
        backend?.stop(milliseconds: 5000)
        store?.close()
        host?.stop(milliseconds: 5000)
        directory.remove()
    }

    /// Clears a disk whose frontend is gone out of the store and the hypervisor.
    func release(_ disk: PairedDisk) {
        UnixSocket.remove(disk.socket)
        guard let store, host != nil else { return }
        do { try GuestDomain.destroy(disk.domain, in: directory.run, store: store) } catch {
            complain("pair: \(disk.name): \(error.message ?? "")")
        }
    }
}
