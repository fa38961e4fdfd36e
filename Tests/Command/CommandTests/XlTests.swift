// Debian's xl, unchanged, attaches and detaches disks of QEMU's: a toolstack and a backend that are not ours, and our
// frontend between them.

import Foundation
import TestSupport
import Testing

/// A mount namespace with the directories that libxl writes to, and what it wants to know of guest 1. Gone when
/// released.
private final class XlPlace {
    private let host: XenHost
    private let holder: RunningProcess

    init(_ host: XenHost) throws {
        self.host = host
        let vm = try host.xenRun(["xenstore-read", "/local/domain/1/vm"]).output.trimmingCharacters(in: .whitespacesAndNewlines)
        let userdata = "/var/lib/xen/userdata-d.1.\(vm.split(separator: "/").last ?? "").libxl-json"
        let script = """
            mount -t tmpfs none /var/lib/xen && mount -t tmpfs none /var/log/xen && mount -t tmpfs none /run && mkdir -p /run/xen &&
            echo '{"c_info":{"type":"pv","name":"guest1"},"b_info":{"type":"pv"}}' > \(userdata) && echo ready && exec sleep 600
            """
        holder = try host.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
        guard eventually(10_000, { [holder] in holder.output == "ready\n" }) else {
            throw TestFailure("xl's place: \(holder.errors)")
        }
        // A guest whose disks a QEMU serves has one.
        guard try host.xenRun(["xenstore-write", "/local/domain/1/image/device-model-pid", "1"]).status == 0 else {
            throw TestFailure("the store")
        }
    }

    deinit {
        kill(holder.pid, SIGKILL)
        _ = holder.wait(seconds: 10)
    }

    func xl(_ arguments: [String]) throws -> Outcome {
        try RunningProcess.run(
            [
                "nsenter", "--target", "\(holder.pid)", "--mount", Tools.causeway, "xen-run", "--",
                "\(EndToEnd.XenPrograms.tools)/xl",
            ]
                + arguments, environment: ["CAUSEWAY_RUN_DIR": host.runDirectory], in: host.scratch, seconds: 60)
    }
}

extension EndToEnd {
    @Suite("xl's disks", .enabled(if: Tools.isRoot)) struct XlDisks {
        private let scratch: Scratch

        init() throws { scratch = try Scratch() }

        @Test("acceptance 2 and 10: xl block-attach, block-list and block-detach of a qcow2 image of QEMU's, raw and again")
        func attachAndDetach() throws {
            let host = try XenHost(in: scratch)
            let place = try XlPlace(host)
            let image = "\(scratch.path)/disk.qcow2"
            #expect(try RunningProcess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], in: scratch).status == 0)
            let disk = try QemuDisk(host, image: nil)
            for round in 0..<2 {
                let spec = "format=qcow2,vdev=xvdb,access=rw,backendtype=qdisk,target=\(image)"
                let attached = try place.xl(["block-attach", "1", spec])
                #expect(attached.status == 0, "\(attached) \(disk.qemu.errors)")
                let frontend = try disk.connect("xvdb")
                let outcome = try #require(try disk.fio(megabytes: 16).wait(seconds: 100))
                #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
                let listed = try place.xl(["block-list", "1"])
                // 51728 is xvdb; state 4 is connected.
                let row = listed.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }.first {
                    $0.first == "51728"
                }
                #expect(listed.status == 0 && row?.dropFirst(3).first == "4", "\(listed)")
                let detached = try place.xl(["block-detach", "1", "xvdb"])
                #expect(detached.status == 0, "\(detached)")
                // The frontend has nothing more to wait for, and ends by itself.
                let ended = frontend.wait(seconds: 10)
                #expect(ended != nil, "round \(round): the frontend stays: \(frontend.errors)")
                #expect(!frontend.errors.contains("holding what is in flight"), "\(frontend.errors)")
                if ended == nil { kill(frontend.pid, SIGKILL) }
                let store = try host.xenRun(["xenstore-ls", "/local/domain"])
                #expect(!store.output.contains("51728"), "\(store)")
                #expect(try host.settles(), "\(host.usageText)")
            }
            disk.stop()
            #expect(try RunningProcess.run(["qemu-img", "check", image], in: scratch).status == 0)
        }

        @Test(
            "a disk of QEMU's that is taken away while somebody uses it stays as long, and then is gone",
            arguments: ["xl", "causeway", "force"])
        func detachedInUse(_ toolstack: String) throws {
            let host = try XenHost(in: scratch)
            let place = try XlPlace(host)
            let image = try scratch.makeImage(megabytes: 16)
            let disk = try QemuDisk(host, image: nil)
            let attached = try host.run(["block-attach", "\(image),raw,xvdb,w,backendtype=qdisk"])
            #expect(attached.status == 0, "\(attached) \(disk.qemu.errors)")
            let frontend = try disk.connect("xvdb")
            let fio = try disk.fio(megabytes: 16, ["--rate=1m,1m", "--time_based", "--runtime=100"])
            #expect(eventually(10_000) { fio.isRunning })
            sleepMilliseconds(1000)
            let detached =
                toolstack == "xl"
                ? try place.xl(["block-detach", "1", "xvdb"])
                : try host.run(["block-detach", "1", "xvdb"] + (toolstack == "force" ? ["--force"] : []))
            #expect((detached.status == 0) == (toolstack == "force"), "\(detached)")
            if toolstack != "force" {
                // Nothing was taken from whoever uses it.
                #expect(fio.isRunning && frontend.isRunning, "\(fio.errors) \(frontend.errors)")
                kill(fio.pid, SIGTERM)
                _ = fio.wait(seconds: 10)
            }
            // Ours put the disk back; xl leaves it on its way out, and QEMU then takes its whole directory away.
            if toolstack == "causeway" { #expect(try host.run(["block-detach", "1", "xvdb"]).status == 0) }
            let ended = frontend.wait(seconds: 10)
            #expect(ended != nil, "the frontend stays: \(frontend.errors)")
            if ended == nil { kill(frontend.pid, SIGKILL) }
            _ = fio.wait(seconds: 10)
            #expect(try !host.xenRun(["xenstore-ls", "/local/domain/0/backend"]).output.contains("51728"))
            disk.stop()
            #expect(try host.settles(), "\(host.usageText)")
        }
    }
}
