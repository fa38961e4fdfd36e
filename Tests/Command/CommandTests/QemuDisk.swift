import Foundation
import TestSupport

/// QEMU's disk backend on a host, and Causeway's frontend before it.
final class QemuDisk {
    static let program = "/usr/libexec/xen-qemu-system-i386"
    let host: XenHost
    private(set) var qemu: RunningProcess
    private var frontend: RunningProcess?
    private let arguments: [String]
    let socket: String

    /// - Parameter image: a raw image that is on QEMU's own command line; nil: QEMU takes what a toolstack attaches.
    init(_ host: XenHost, image: String?) throws {
        self.host = host
        var arguments = [
            Self.program, "-M", "xenpv", "-xen-domid", "1", "-xen-attach", "-nodefaults", "-nographic", "-no-shutdown", "-monitor",
            "none",
        ]
        if let image {
            arguments += [
                "-blockdev", "driver=file,filename=\(image),node-name=f0", "-blockdev", "driver=raw,file=f0,node-name=d0",
                "-device", "xen-disk,vdev=xvda,drive=d0",
            ]
        }
        self.arguments = arguments
        socket = "\(host.scratch.path)/fe.sock"
        qemu = try host.startXen(arguments)
        try waitRunning()
    }

    private func waitRunning() throws {
        let (host, qemu) = (host, qemu)
        let isUp = try eventually(30_000) {
            if !qemu.isRunning { return true }
            return try host.xenRun(["xenstore-read", "device-model/1/state"]).output == "running\n"
        }
        guard isUp, qemu.isRunning else { throw TestFailure("QEMU did not start: \(qemu.errors)") }
    }

    /// Starts the frontend of a disk and waits until it is to be had.
    func connect(_ vdev: String, options: [String] = []) throws -> RunningProcess {
        let running = try host.start([Tools.causeway, "frontend", "vbd", vdev, "--nbd", socket, "--domain", "1"] + options)
        let socket = socket
        guard eventually(30_000, { FileManager.default.fileExists(atPath: socket) || !running.isRunning }), running.isRunning else {
            throw TestFailure("no frontend: \(running.errors) \(qemu.errors)")
        }
        frontend = running
        return running
    }

    var uri: String { "nbd+unix:///?socket=\(socket)" }

    func fio(megabytes: Int, _ options: [String] = []) throws -> RunningProcess {
        try RunningProcess(
            [
                "fio", "--name=v", "--ioengine=nbd", "--uri=\(uri)", "--rw=randrw", "--bsrange=512-1M", "--iodepth=32",
                "--size=\(megabytes)m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--minimal",
            ] + options, in: host.scratch)
    }

    func killQemu() {
        kill(qemu.pid, SIGKILL)
        _ = qemu.wait(seconds: 10)
    }

    func restartQemu() throws {
        qemu = try host.startXen(arguments)
        try waitRunning()
    }

    /// Ends both, the frontend first.
    func stop() {
        for running in [frontend, qemu] where running?.isRunning == true {
            if let running {
                kill(running.pid, SIGTERM)
                _ = running.wait(seconds: 20)
            }
        }
    }
}
