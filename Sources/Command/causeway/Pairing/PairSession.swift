// A pair from its first process to its last. One thread: it starts and reaps every process, so that "ends with its
// parent" (which the kernel ties to the starting thread) holds, and so that there is nothing to lock.

import CommandSupport
import Confinement
import Glibc
import LinuxSystem
import Toolstack
import XenStore

/// How a pair is run.
struct PairPlan {
    let features: BlockFeatures
    let vifFeatures: VifFeatures
    let threads: ReactorOptions
    /// Milliseconds that a disk may take to connect.
    let connectTimeout: Int
    let loudness: QuietOption
    let confinement: ConfinementOptions
    /// The users that frontends become; nil: they stay this process's.
    let users: UserRange?
    /// Where the host's machine frames are scattered to.
    let machineSeed: UInt64
    let keepsJournals: Bool
    /// Whether images are taken from whoever has their locks, when the pair begins.
    let takesOver: Bool
    /// What serves in the place of our backend, as a program of Xen's in domain 0: for a shell.
    let backendCommand: String?
    /// Whether devices are served over vhost-user, too.
    let servesVhostUser: Bool
    /// Whether what a backend has open must outlive it: for front ends of vhost-user, and for NVMe controllers.
    let keepsDescriptors: Bool

    /// Who frontends become.
    var userArguments: [String] { users.map { ["--users", "\($0)"] } ?? [] }
}

struct PairSession: ~Copyable {
    let directory: PairDirectory
    let plan: PairPlan
    let ending: EndRequests

    var host: ChildProcess?
    var backend: ChildProcess?
    /// What front ends of vhost-user and controllers need, and who reads what the backend says of it.
    let kept = KeptDescriptors()
    var keptBackend: KeptWorker?
    private var spare = SpareWorker()
    var restarts = RestartPolicy()
    var disks: [PairedDisk] = []
    var vifs: [PairedVif] = []
    var store: StoreClient?
    var command: ChildProcess?

    init(directory: PairDirectory, plan: PairPlan, ending: EndRequests) {
        self.directory = directory
        self.plan = plan
        self.ending = ending
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
            sayWhereToLook()
            status = try arguments.isEmpty ? runUntilInterrupted() : runCommand(arguments)
        } catch {
            if let message = error.message { complain(message) }
            status = error.status
        }
        tearDown()
        return status
    }

    func say(_ line: String) { plan.loudness.say(line) }

    /// What to type in another terminal to see more of the devices.
    private func sayWhereToLook() {
        let names = disks.map { "\($0.domain)/\($0.specification.vdev)" } + vifs.map { "\($0.domain)/\($0.paths.device)" }
        guard let first = names.first else { return }
        let others = names.count > 1 ? " (there is \(names.joined(separator: ", ")))" : ""
        plan.loudness.note(
            "pair: to look inside: export CAUSEWAY_RUN_DIR=\(directory.run); causeway top, causeway trace \(first)\(others)")
    }

    // Starting.

    private mutating func startHost() throws(Failure) {
        let host = try ChildProcess.startRole(
            ["host", "--machine-seed", "\(plan.machineSeed)"] + plan.loudness.arguments + plan.confinement.arguments,
            in: directory.run)
        self.host = host
        ending.host(is: host)
        let end = ContinuousClock.now + .milliseconds(plan.connectTimeout)
        // This one and no other: a host that somebody else has started there is none of ours to enter.
        while StreamSocket.listener(at: directory.run.storeSocket) != host.process {
            if let status = host.reap() {
                self.host = nil
                ending.host(is: nil)
                throw Self.failure("the host", status)
            }
            guard ContinuousClock.now < end else {
                throw Failure(
                    "pair: waiting for the host to open \(directory.run.storeSocket): nothing after \(plan.connectTimeout) ms"
                )
            }
            try checkInterruption(milliseconds: 2)
        }
        store = try directory.run.connectStore()
    }

    mutating func startBackend() throws(Failure) {
        defer { restarts.started() }
        if let command = plan.backendCommand {
            let common = ["xen-run", "--run-dir", directory.run.path, "--exit-with", "\(getpid())"]
            backend = try ChildProcess.start(
                [try Executable.path()] + common + ["--", "sh", "-c", "exec \(command)"], ownGroup: true)
            return
        }
        // What keeps a device from connecting is told here, from its error node; a later backend has nobody to read
        // that.
        let isFirst = disks.isEmpty && vifs.isEmpty
        let first = ["--attach-errors-in-store"] + (plan.takesOver ? [TakeOver.option] : [])
        let arguments = (isFirst ? first : []) + backendArguments
        let run = directory.run
        guard plan.keepsDescriptors else { return backend = try ChildProcess.startRole(["backend"] + arguments, in: run) }
        let program = kept.program
        if let next = spare.take(kept) {
            keptBackend = next
        } else {
            keptBackend = try kept.start { (end) throws(Failure) in
                try ChildProcess.startRole(["backend", "--kept"] + arguments, in: run, passing: end, program: program)
            }
        }
        backend = keptBackend?.process
    }

    private var backendArguments: [String] {
        let journal = plan.keepsJournals ? ["--journal", directory.journal] : []
        let exports = plan.servesVhostUser ? ["--vhost-user", directory.run.path] : []
        return journal + exports + plan.loudness.arguments + plan.confinement.arguments + plan.features.arguments
            + plan.vifFeatures.arguments
            + plan.threads.arguments
    }

    /// Has the next backend wait for its turn, where front ends would wait for its start.
    mutating func lookAfterSpare() {
        guard plan.keepsDescriptors else { return }
        let (run, arguments, program) = (directory.run, backendArguments, kept.program)
        spare.lookAfter(kept) { (end) throws(Failure) in
            try ChildProcess.startRole(["backend", "--kept"] + arguments, in: run, passing: end, program: program)
        }
    }

    private mutating func attach(_ disk: DiskSpecification) throws(Failure) {
        guard let store else { return }
        let devices = DeviceDirectories(store: store)
        let domain = try GuestDomain.create(name: "guest", in: directory.run, store: store)
        let paths: DevicePaths
        do {
            paths = try devices.create(
                .init(disk, frontend: domain, physicalDevice: disk.physicalDevice))
        } catch {
            try? GuestDomain.destroy(domain, in: directory.run, store: store)
            throw Failure("pair: \(error)")
        }
        let socket = directory.socket(of: disk.vdev.name)
        disks.append(PairedDisk(specification: disk, domain: domain, paths: paths, socket: socket))
        let index = disks.count - 1
        if disk.front == .vhostUser {
            try waitServed(paths, at: disks[index].vhostSocket(in: directory.run.path), disk.vdev.name)
            return say(disks[index].line(in: directory.run.path))
        }
        try listen(for: index)
        try startFrontend(index)
        try waitConnected(index, devices)
        var restarts = RestartPolicy()
        restarts.started()
        disks[index].restarts = restarts
        say(disks[index].line(in: directory.run.path))
    }

    /// Waits until a device can be reached over vhost-user.
    mutating func waitServed(_ paths: DevicePaths, at path: String, _ name: String) throws(Failure) {
        let end = ContinuousClock.now + .milliseconds(plan.connectTimeout)
        while !StreamSocket.isListening(at: path) {
            try checkInterruption(milliseconds: 2)
            guard let devices = store.map({ DeviceDirectories(store: $0) }) else { return }
            do throws(ToolstackError) {
                let (reason, state) = (try devices.failure(of: paths), try devices.progress(of: paths).backend)
                if let reason, state == .closing || state == .closed { throw .deviceFailed(reason) }
                guard ContinuousClock.now < end else {
                    throw .timedOut(
                        waitingFor: "waiting for \(path)", seen: reason ?? "nobody listens there", milliseconds: plan.connectTimeout
                    )
                }
            } catch { throw Failure("pair: \(name): \(error)") }
        }
    }

    /// Waits for both sides, while children that end are looked after. Clients that come before the frontend serves
    /// them wait in the socket.
    private mutating func waitConnected(_ index: Int, _ devices: DeviceDirectories) throws(Failure) {
        let disk = disks[index]
        let end = ContinuousClock.now + .milliseconds(plan.connectTimeout)
        while true {
            try checkInterruption(milliseconds: 0)
            guard disks[index].frontend != nil else {
                // That it did is said already.
                throw Failure.silent(1)
            }
            do {
                try devices.waitConnected(disk.paths, milliseconds: 50)
                break
            } catch .timedOut(let step, let seen, _) {
                guard ContinuousClock.now < end else {
                    throw Failure("pair: \(disk.name): \(step): not done after \(plan.connectTimeout) ms (\(seen))")
                }
            } catch { throw Failure("pair: \(disk.name): \(error)") }
        }
    }

    // Ending: what was started last ends first.

    private mutating func tearDown() {
        ending.step()
        command?.stop(milliseconds: 2000)
        endVifs()
        endFrontends()
        for index in disks.indices.reversed() {
            ending.step()
            release(index)
        }
        ending.step()
        spare.end()
        backend?.stop(milliseconds: 5000)
        keptBackend?.finish()
        store?.close()
        ending.step()
        host?.stop(milliseconds: 5000)
        ending.host(is: nil)
        directory.remove()
    }

    /// Clears a disk whose frontend is gone for good out of the store and the hypervisor, and turns its clients away.
    mutating func release(_ index: Int) {
        let disk = disks[index]
        guard !disk.isReleased else { return }
        disks[index].isReleased = true
        disks[index].listener = nil
        FileSystem.remove(disk.socket)
        FileSystem.remove(disk.readyFile)
        guard let store, host != nil else { return }
        do { try GuestDomain.destroy(disk.domain, in: directory.run, store: store) } catch {
            complain("pair: \(disk.name): \(error.message ?? "")")
        }
    }
}
