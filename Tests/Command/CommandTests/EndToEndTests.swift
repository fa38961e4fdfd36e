import Foundation
import Testing
import TestSupport

/// Everything here runs the built command with real tools. In turn: two processors, and processes that want them.
@Suite("End to end", .serialized, .timeLimit(.minutes(10)))
struct EndToEnd {}

/// fio's verify job, as the README has it.
func verifyJob(megabytes: Int) -> [String] {
    let fio =
        "exec fio --name=v --ioengine=nbd --uri=\"$uri\" --rw=randrw --bsrange=512-1M --iodepth=32 --size=\(megabytes)m "
        + "--verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal"
    return ["sh", "-c", fio]
}

func pair(_ disks: [String], options: [String] = [], command: [String], in scratch: Scratch, seconds: Double = 120)
    throws -> Outcome
{
    try RunningProcess.run(
        [Tools.causeway, "pair"] + options + disks.flatMap { ["--disk", $0] } + ["--"] + command, in: scratch,
        seconds: seconds)
}

extension EndToEnd {
    @Suite("Data through a pair") struct Data {
        @Test("fio verifies 256 MiB of mixed sizes on a file")
        func fileVerify() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 256)
            let outcome = try pair(
                ["\(image),raw,xvda,w"], command: verifyJob(megabytes: 256), in: scratch, seconds: 300)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
        }

        @Test("fio verifies a loop device (needs root)", .enabled(if: Tools.hasLoopDevices))
        func loopVerify() throws {
            let scratch = try Scratch()
            let device = try LoopDevice(on: try scratch.makeImage(megabytes: 64), in: scratch)
            let outcome = try pair(["\(device.path),,xvda,w"], command: verifyJob(megabytes: 64), in: scratch)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
        }

        @Test("fio verifies a disk given as an NBD URI")
        func nbdVerify() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/backing.sock"
            let server = try RunningProcess(["nbdkit", "--foreground", "--unix", socket, "memory", "64M"], in: scratch)
            defer {
                kill(server.pid, SIGTERM)
                _ = server.wait(seconds: 5)
            }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: socket) })
            let spec = "nbd+unix:///?socket=\(socket),raw,xvda,w"
            let outcome = try pair([spec], command: verifyJob(megabytes: 64), in: scratch)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
        }

        @Test("a client may use any offset and length; what is beside them stays")
        func bytesNotSectors() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let steps = [
                "write -P 1 0 4096", "write -P 7 777 5", "read -P 7 777 5", "read -P 1 0 777", "read -P 1 782 500",
                "write -z 778 3", "read -P 0 778 3", "read -P 7 777 1", "read -P 7 781 1", "write -P 9 1000 2000",
                "read -P 9 1000 2000", "read -P 1 3000 1096", "discard 1030 1000", "read -P 9 1000 24", "flush",
            ]
            let outcome = try pair(
                ["\(image),raw,xvda,w"],
                command: ["sh", "-c", "exec qemu-io -f raw \"$uri\" " + steps.map { "-c '\($0)'" }.joined(separator: " ")],
                in: scratch)
            #expect(outcome.status == 0 && !outcome.output.contains("failed"), "\(outcome.output) \(outcome.errors)")
            let bytes = [UInt8](try #require(FileManager.default.contents(atPath: image)))
            #expect(Array(bytes[776...782]) == [1, 7, 0, 0, 0, 7, 1] && bytes[999] == 1 && bytes[1000] == 9)
        }

        @Test(
            "each feature off, and each ABI",
            arguments: [
                ["--no-persistent"], ["--segments", "11"], ["--segments", "32"], ["--ring-page-order", "3"],
                ["--queues", "4"],
                ["--abi", "x86_32"], ["--abi", "x86_64"], ["--no-flush", "--no-barrier"], ["--no-discard"],
                ["--no-persistent", "--segments", "11", "--queues", "1", "--ring-page-order", "0", "--abi", "x86_32"],
            ])
        func features(_ options: [String]) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            let outcome = try pair(
                ["\(image),raw,xvda,w"], options: options, command: verifyJob(megabytes: 16), in: scratch)
            #expect(outcome.status == 0, "\(options): \(outcome.errors.suffix(2000))")
        }

        @Test("qemu-img, qemu-io, nbdcopy and nbdinfo agree with the file")
        func clients() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 32)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let uri = pair.uri("xvda")
            let write = try pair.run([
                "qemu-io", "-f", "raw", uri, "-c", "write -P 0xa5 1M 3M", "-c", "read -P 0xa5 1M 3M", "-c", "flush",
            ])
            #expect(write.status == 0 && !write.output.contains("failed"), "\(write.output) \(write.errors)")
            let info = try pair.run(["qemu-img", "info", "-f", "raw", uri])
            #expect(info.output.contains("32 MiB (33554432 bytes)"), "\(info.output)")
            let compare = try pair.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", uri, image])
            #expect(compare.status == 0 && compare.output.contains("identical"), "\(compare.output) \(compare.errors)")
            let copy = try pair.run(["nbdcopy", uri, "\(scratch.path)/copy.img"])
            #expect(copy.status == 0, "\(copy.errors)")
            #expect(try pair.run(["cmp", "\(scratch.path)/copy.img", image]).status == 0)
            let size = try pair.run(["nbdinfo", "--size", uri])
            #expect(size.output.trimmingCharacters(in: .whitespacesAndNewlines) == "33554432")
            #expect(try pair.run(["nbdinfo", "--can", "connect", uri]).status == 0)
            #expect(pair.stop()?.status == 0)
        }

        @Test("TS4, A23: a read-only disk refuses writes and stays as it is")
        func readOnly() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let command = [
                "sh", "-c", "nbdinfo --is read-only \"$uri\" && ! qemu-io -f raw \"$uri\" -c 'write -P 1 0 4096'",
            ]
            let outcome = try pair(["\(image),raw,xvda,r"], command: command, in: scratch)
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(FileManager.default.contents(atPath: image) == Foundation.Data(count: 4 << 20))
        }

        @Test("A32, TS5: bytes that look like qcow2 stay bytes")
        func formatIsNotGuessed() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let decoy = "\(scratch.path)/decoy.qcow2"
            let make = try RunningProcess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw", decoy, "1G"],
                in: scratch)
            #expect(make.status == 0, "\(make.errors)")
            // Whole sectors: an NBD client may write nothing else here.
            #expect(try RunningProcess.run(["truncate", "--size", "%4096", decoy], in: scratch).status == 0)
            let command = ["sh", "-c", "nbdcopy '\(decoy)' \"$uri\" && test $(nbdinfo --size \"$uri\") = 4194304"]
            for _ in 0..<2 {
                let outcome = try pair(["\(image),raw,xvda,w"], command: command, in: scratch)
                #expect(outcome.status == 0, "\(outcome.errors)")
            }
        }

        @Test("two disks are two domains, each with its own data")
        func twoDisks() throws {
            let scratch = try Scratch()
            let images = [try scratch.makeImage("a.img", megabytes: 4), try scratch.makeImage("b.img", megabytes: 8)]
            let command = [
                "sh", "-c", "echo $uri $(nbdinfo --size $CAUSEWAY_NBD_xvda) $(nbdinfo --size $CAUSEWAY_NBD_xvdb)",
            ]
            let outcome = try pair(
                ["\(images[0]),raw,xvda,w", "\(images[1]),raw,xvdb,r"], options: ["--quiet"], command: command,
                in: scratch)
            #expect(outcome.output.hasSuffix("xvda.sock 4194304 8388608\n"), "\(outcome.output) \(outcome.errors)")
        }
    }
}
