// What a pair does when one of its processes ends: a backend and a frontend come back, a host is the end.

import CommandSupport
import Glibc
import LinuxSystem

extension PairSession {
    /// A process of ours that ended by itself has said why; one that was killed could not.
    static func failure(_ what: String, _ status: ExitStatus) -> Failure {
        if case .exited(let number) = status, number != 0 { return .silent(1) }
        return Failure("pair: \(what) \(status)")
    }

    /// Reaps whoever ended and answers it.
    mutating func lookAfterChildren() throws(Failure) {
        if let status = host?.reap() {
            host = nil
            ending.host(is: nil)
            throw Self.failure("the host", status)
        }
        if let status = backend?.reap() {
            let now = SystemTime().nanoseconds
            backend = nil
            var wasServing: Bool?
            if let ended = keptBackend.take() {
                ended.finish()
                wasServing = kept.ended(status, at: now, "backend")
            }
            restarts.ended(status)
            complain("pair: the backend \(status)\(wasServing == false ? ", before it served" : ""); starting it again")
        }
        if let pause = kept.takePause() {
            plan.loudness.note("pair: the backend goes on: front ends have waited for \(inMilliseconds(pause))")
        }
        if backend == nil, host != nil, restarts.isDue { try startBackend() }
        lookAfterSpare()
        try lookAfterVifs()
        for index in disks.indices { try lookAfterFrontend(index) }
    }

    /// How long a signal may be waited for: a start may be due soon.
    var patience: Int { isStartPending ? 5 : 1000 }

    private var isStartPending: Bool {
        restarts.isPending || kept.isAwaited || disks.contains { $0.restarts?.isPending == true }
            || vifs.contains { $0.restarts?.isPending == true }
    }

    // MARK: A disk's frontend

    /// Makes the socket that a disk's clients connect to. This process keeps it, whatever becomes of the frontend.
    mutating func listen(for index: Int) throws(Failure) {
        let socket = disks[index].socket
        // What a pair that was killed left in a directory that was given; this one has claimed it.
        if FileSystem.isSocket(socket), !StreamSocket.accepts(at: socket) { FileSystem.remove(socket) }
        do throws(Errno) { disks[index].listener = try StreamSocket.listen(path: socket, blocks: true) } catch {
            throw Failure("pair: \(disks[index].name): \(socket): \(error)")
        }
    }

    mutating func startFrontend(_ index: Int) throws(Failure) {
        let disk = disks[index]
        FileSystem.remove(disk.readyFile)
        disks[index].frontend = try ChildProcess.startRole(
            [
                "frontend", "vbd", disk.name, "--nbd", disk.socket, "--domain", "\(disk.domain)", "--listening", "--timeout",
                "\(plan.connectTimeout / 1000)", "--pidfile", disk.readyFile,
            ] + plan.loudness.arguments + plan.confinement.arguments + plan.userArguments + plan.features.arguments,
            in: directory.run, passing: disk.listener)
        disks[index].restarts?.started()
    }

    /// Ends all frontends of disks, together. One whose client waits for a disk that is away does not hear of it before
    /// its request has ended, so it is killed; what the backend was given is done or left there all the same.
    mutating func endFrontends() {
        for disk in disks { disk.frontend?.signal(SIGTERM) }
        let end = ContinuousClock.now + .milliseconds(2000 + 20 * disks.count)
        for index in disks.indices.reversed() {
            guard let frontend = disks[index].frontend else { continue }
            ending.step()
            // One that waits to be connected hears nothing, and has nothing to lose.
            let isConnected = disks[index].restarts != nil
            let left = isConnected ? (end - .now) / .milliseconds(1) : 200
            if frontend.wait(milliseconds: Int(max(0, left))) == nil {
                announceEnd(of: disks[index])
                frontend.stop(milliseconds: 0)
            }
            disks[index].frontend = nil
        }
    }

    /// Lets the backend know that the end of a disk's frontend is nothing to report; a host that stands still is not
    /// waited for.
    private func announceEnd(of disk: PairedDisk) {
        guard let store else { return }
        let node = disk.paths.backendPath + "/online"
        let isDone = Monitor(false)
        let isStarted: Void? = try? startDetachedThread(name: "offline") {
            try? store.write(node, "0")
            isDone.change { $0 = true }
        }
        if isStarted != nil { _ = isDone.wait(milliseconds: 200, SystemTime()) { $0 ? true : nil } }
    }

    private mutating func lookAfterFrontend(_ index: Int) throws(Failure) {
        if let status = disks[index].frontend?.reap() {
            disks[index].frontend = nil
            let restarts = disks[index].restarts.map { policy in
                var policy = policy
                policy.ended(status, wasOfUse: disks[index].wasReady)
                return policy
            }
            let (name, domain) = (disks[index].name, disks[index].domain)
            // One that ends well was asked to, or its disk was taken away.
            if let restarts, status != .exited(0), !restarts.isExhausted {
                disks[index].restarts = restarts
                complain("pair: \(name): the frontend \(status); starting it again")
            } else {
                disks[index].restarts = nil
                let often = restarts?.isExhausted == true ? ", again and again" : ""
                complain("pair: \(name): the frontend \(status)\(often); its domain \(domain) is destroyed")
                release(index)
            }
        }
        if disks[index].frontend == nil, disks[index].restarts?.isDue == true, host != nil { try startFrontend(index) }
    }
}
