// Our frontends through Xen's libraries, as they are in a guest of Xen's; the backend is native or goes through them,
// too.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Our frontends through Xen's libraries") struct XenFrontend {
        private let scratch: Scratch

        init() throws { scratch = try Scratch() }

        private func startBackend(_ host: XenHost, xen: Bool, in namespace: String? = nil) throws -> RunningProcess {
            let inside = namespace.map { ["ip", "netns", "exec", $0] } ?? []
            let backend = [Tools.causeway, "backend", "--scripts", "ignore", "--no-journal"]
            return xen
                ? try host.start(inside + [Tools.causeway, "xen-run", "--"] + backend + ["--xen"])
                : try host.start(inside + backend)
        }

        private func end(_ running: [RunningProcess]) {
            for process in running where process.isRunning {
                kill(process.pid, SIGTERM)
                _ = process.wait(seconds: 20)
            }
        }

        @Test("acceptance 9: a disk, its backend killed in the midst, taken away while nobody uses it", arguments: [false, true])
        func disk(backendToo: Bool) throws {
            let host = try XenHost(in: scratch)
            var backend = try startBackend(host, xen: backendToo)
            let image = try scratch.makeImage(megabytes: 32)
            let attached = try host.run(["block-attach", "\(image),raw,xvda,w"])
            #expect(attached.status == 0, "\(attached) \(backend.errors)")
            let socket = "\(scratch.path)/fe.sock"
            let frontend = try host.startXen([Tools.causeway, "frontend", "vbd", "xvda", "--xen", "--nbd", socket], domain: 1)
            #expect(
                eventually(20_000) { FileManager.default.fileExists(atPath: socket) || !frontend.isRunning }, "\(frontend.errors)")
            let uri = "nbd+unix:///?socket=\(socket)"
            let fio = try RunningProcess(
                [
                    "fio", "--name=v", "--ioengine=nbd", "--uri=\(uri)", "--rw=randrw", "--bsrange=512-1M", "--iodepth=32",
                    "--size=32m",
                    "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--minimal", "--rate=12m,12m",
                ], in: scratch)
            sleepMilliseconds(1000)
            kill(backend.pid, SIGKILL)
            _ = backend.wait(seconds: 10)
            backend = try startBackend(host, xen: backendToo)
            let outcome = try #require(fio.wait(seconds: 200))
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(frontend.errors) \(backend.errors)")
            let copy = "\(scratch.path)/copy.img"
            #expect(try RunningProcess.run(["nbdcopy", uri, copy], in: scratch).status == 0)
            #expect(try RunningProcess.run(["cmp", image, copy], in: scratch).status == 0)
            let detached = try host.run(["block-detach", "1", "xvda"])
            #expect(detached.status == 0, "\(detached)")
            #expect(frontend.wait(seconds: 20) != nil, "\(frontend.errors)")
            end([frontend, backend])
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 9: an interface (needs root)", .enabled(if: Tools.isRoot), arguments: [false, true])
        func interface(backendToo: Bool) throws {
            let host = try XenHost(in: scratch)
            let names = ["back", "front"].map { "cwx\(getpid())\($0)" }
            for name in names { #expect(try RunningProcess.run(["ip", "netns", "add", name], in: scratch).status == 0) }
            defer { for name in names { _ = try? RunningProcess.run(["ip", "netns", "del", name], in: scratch) } }
            let backend = try startBackend(host, xen: backendToo, in: names[0])
            let attached = try host.run(["network-attach", "1", "mac=00:16:3e:01:02:03"])
            #expect(attached.status == 0, "\(attached) \(backend.errors)")
            let frontend = try host.startXen(
                [Tools.causeway, "frontend", "vif", "0", "--xen", "--tap", "cwf0", "--netns", names[1]], domain: 1)
            let script = """
                n=0; until ip -n \(names[1]) link set cwf0 up && ip -n \(names[0]) link set vif1.0 up; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.1; done
                ip -n \(names[0]) addr add 198.18.8.1/24 dev vif1.0; ip -n \(names[1]) addr add 198.18.8.2/24 dev cwf0
                n=0; until ip netns exec \(names[0]) ping -q -c 1 -W 1 198.18.8.2; do n=$((n+1)); [ $n -lt 20 ]; done
                exec ip netns exec \(names[0]) ping -q -c 20 -i 0.05 -s 1400 198.18.8.2
                """
            let pinged = try RunningProcess.run(["sh", "-ec", script], in: scratch)
            #expect(
                pinged.status == 0 && pinged.output.contains("20 received"), "\(pinged) \(frontend.errors) \(backend.errors)")
            end([frontend, backend])
            #expect(try host.settles(), "\(host.usageText)")
        }
    }
}
