// What is said of a mistake: one line, in words, before anything is started; and nothing where nothing is wrong.

import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("Messages") struct Messages {
        /// One message: its first line, and of a specification's the two that show the place.
        static func isOneMessage(_ errors: String) -> Bool {
            let lines = errors.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            guard let first = lines.first, first.hasPrefix("causeway: "), Self.isInWords(errors) else { return false }
            return lines.count == 1 || (lines.count == 3 && lines.dropFirst().allSatisfy { $0.hasPrefix("  ") })
        }

        /// Whether a text has nothing that only a Swift programmer knows: a case with its values, a type's name, an
        /// optional.
        static func isInWords(_ text: String) -> Bool {
            let foreign =
                /[a-z]\w*\((?:"|[A-Z]\w+\.|rawValue|code:|path:|reason:)|CocoaError|POSIXError|Optional\(|Swift\.|Foundation/
            return text.firstMatch(of: foreign) == nil
        }

        @Test("what is no disk is said in a sentence of its own, with nothing started", arguments: Self.targets)
        func target(_ specification: String, _ status: Int32, _ words: String) throws {
            let scratch = try Scratch()
            _ = try scratch.makeImage("a.img", megabytes: 1)
            for command in [["pair", "--disk", specification, "--", "true"], ["block-attach", specification]] {
                let script = "cd \(scratch.path) && exec \"$0\" \"$@\""
                let outcome = try RunningProcess.run(
                    ["sh", "-c", script, Tools.causeway] + command, environment: ["CAUSEWAY_RUN_DIR": scratch.path], in: scratch)
                #expect(outcome.status == status && outcome.errors.contains(words), "\(command): \(outcome)")
                #expect(Self.isOneMessage(outcome.errors) && outcome.output.isEmpty, "\(outcome)")
            }
        }

        static let targets: [(String, Int32, String)] = [
            ("", 2, "all is empty; write TARGET,FORMAT,VDEV,ACCESS"),
            (" ", 2, "all is empty"),
            ("null:,,xvda", 2, "a null device is null:SIZE"),
            ("null:-5,,xvda", 2, "a null device is null:SIZE"),
            ("null:abc,,xvda", 2, "a null device is null:SIZE"),
            ("null:100,,xvda", 2, "a null device is null:SIZE"),
            ("vdev=xvda,target=null:1X", 2, "a null device is null:SIZE"),
            ("null,,xvda", 1, "a disk without a file is null:SIZE"),
            ("file:,,xvda", 2, "`file:` names no file"),
            ("phy:", 2, "`phy:` names no file"),
            ("mem:,,xvda", 2, "nothing that can be served begins with `mem:`"),
            ("mem:1G,,xvda", 1, "nothing else that can be served begins with `mem:`"),
            ("http://host/a.img,,xvda", 2, "nothing that can be served begins with `http:`"),
            ("vdev=xvda,target=http://host/a.img", 2, "nothing here speaks http"),
            ("HTTP://host/a.img,,xvda", 2, "nothing here speaks http"),
            ("nbd+unix:/tmp/x,,xvda", 2, "two slashes behind its colon: nbd+unix:///EXPORT?socket=PATH"),
            ("vdev=xvda,target=nbd+unix:/tmp/x", 2, "two slashes behind its colon: nbd+unix:///?socket=/tmp/x"),
            ("nbds:host,,xvda", 2, "two slashes behind its colon: nbds://HOST:PORT/EXPORT"),
            ("nbd:host:10809,,xvda", 2, "two slashes behind its colon: nbd://host:10809"),
            ("nbd:unix:/tmp/x,,xvda", 2, "two slashes behind its colon: nbd+unix:///?socket=/tmp/x"),
            ("nbd+unix:///x,,xvda", 2, "it names no socket: nbd+unix:///EXPORT?socket=PATH"),
            ("nbd+unix:///x?socket=,,xvda", 2, "the socket's path is empty"),
            ("nbd+unix://tmp/x?socket=/y,,xvda", 2, "\"tmp\" is taken for a host"),
            ("nbd://host:port/x,,xvda", 2, "\":port\" is no port"),
            ("nbd://host:99999,,xvda", 2, "\":99999\" is no port"),
            ("nbd://host/x?socket=/y,,xvda", 2, "a socket= is for nbd+unix:///EXPORT?socket=PATH"),
            (".,,xvda", 1, "is a directory, not a regular file or a block device"),
            ("/dev/null,,xvda", 1, "is a character device, not a regular file or a block device"),
            ("none.img,,xvda", 1, "none.img: No such file or directory"),
            ("a.img,qcow2,xvda", 1, "format qcow2 is not served; export the image with qemu-nbd"),
        ]

        @Test("an image that looks like another format's is served as it is, with one remark; -q: with none")
        func otherFormats() throws {
            let scratch = try Scratch()
            let heads: [(String, [UInt8], Int)] = [
                ("qcow2", [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3], 0), ("VMDK", Array("KDMV".utf8), 0),
                ("VHDX", Array("vhdxfile".utf8), 0),
                ("VHD", Array("conectix".utf8), 1 << 20 - 512),
            ]
            for (name, bytes, offset) in heads {
                let image = try scratch.makeImage("\(name).img", megabytes: 1)
                let file = try FileHandle(forWritingTo: URL(fileURLWithPath: image))
                try file.seek(toOffset: UInt64(offset))
                try file.write(contentsOf: bytes)
                try file.close()
                for options in [[], ["-q"]] {
                    let outcome = try pair(["\(image),raw,xvda,w"], options: options, command: ["true"], in: scratch)
                    let remarks = outcome.errors.split(separator: "\n").filter { $0.contains("looks like a \(name) image") }
                    #expect(outcome.status == 0 && remarks.count == (options.isEmpty ? 1 : 0), "\(outcome)")
                }
            }
            let plain = try pair(["\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"], command: ["true"], in: scratch)
            #expect(!plain.errors.contains("looks like"), "\(plain)")
        }

        @Test("a disk for a backend that nobody starts is refused at once, by name")
        func noSuchBackend() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage("a.img", megabytes: 1)
            for type in ["qdisk", "tap"] {
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "pair", "--disk", "\(image),raw,xvda,w,backendtype=\(type)", "--", "true"], in: scratch)
                #expect(
                    outcome.status == 1
                        && outcome.errors.hasPrefix("causeway: xvda: backendtype \(type): no such backend is started"),
                    "\(outcome)")
            }
        }

        @Test("an interface's name that looks like an option is a name; -q says nothing of an MTU that is lowered")
        func interfacesName() throws {
            guard Tools.isRoot, access("/dev/net/tun", F_OK) == 0 else { return }
            let outcome = try RunningProcess.run(
                [Tools.causeway, "pair", "-q", "--no-sg", "--vif", "vifname=-x\(getpid() % 10000),mtu=9000", "--", "true"],
                in: Scratch())
            #expect(outcome.status == 0 && outcome.errors.isEmpty && outcome.output.isEmpty, "\(outcome)")
        }

        @Test("where no io_uring can be made a backend says so once, and so does an interface's frontend")
        func noRing() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: ["\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"], in: scratch)
            let strace = [
                "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e", "inject=io_uring_setup:error=EPERM",
            ]
            let words = "io_uring: Operation not permitted; is it allowed here (kernel.io_uring_disabled, seccomp)?\n"
            let backend = try pair.run(
                strace + [Tools.causeway, "backend", "--domain", "0", "--backend-kind", "b", "--vif-kind", "n"])
            let said = ["causeway: blkback: \(words)", "causeway: netback: \(words)"]
            #expect(backend.status == 1 && said.contains(backend.errors), "\(backend)")
            guard Tools.isRoot, access("/dev/net/tun", F_OK) == 0 else { return }
            #expect(try pair.run([Tools.causeway, "network-attach", "-q", "1"]).status == 0)
            let frontend = try pair.run(strace + [Tools.causeway, "frontend", "vif", "0", "--tap", "cwr\(getpid() % 100000)"])
            #expect(frontend.status == 1 && frontend.errors == "causeway: netfront: vif 0: \(words)", "\(frontend)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a wrong option is named, and not what is missing beside it", arguments: Self.unknownOptions)
        func unknownOption(_ words: String, _ option: String) throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [Tools.causeway] + words.split(separator: " ").map(String.init), in: scratch)
            #expect(outcome.status == 2 && outcome.errors.hasPrefix("causeway: Unknown option '\(option)'"), "\(outcome)")
            #expect(outcome.errors.contains("\nUsage: causeway") && outcome.output.isEmpty, "\(outcome)")
        }

        static let unknownOptions = [
            ("pair --bogus", "--bogus"), ("pair --disc a.img,raw,xvda", "--disc"), ("pair -z", "-z"),
            ("pair --queues=2 --bogus=3", "--bogus"),
            ("frontend --bogus", "--bogus"), ("frontend vbd --bogus", "--bogus"), ("frontend vif --bogus", "--bogus"),
            ("frontend vbd xvda --bogus", "--bogus"), ("block-attach --bogus", "--bogus"), ("block-detach --bogus", "--bogus"),
            ("network-detach -z", "-z"), ("trace --bogus", "--bogus"), ("translate --bogus", "--bogus"),
            ("bench block --bogus", "--bogus"),
            ("list --bogus", "--bogus"), ("backend --exit-with 1 --vif-kind vbd --bogus", "--bogus"), ("--bogus", "--bogus"),
        ]

        @Test(
            "what is missing is named where every option is known",
            arguments: ["pair -q", "pair --queues 2", "trace -w - --count 1"])
        func missing(_ words: String) throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [Tools.causeway] + words.split(separator: " ").map(String.init), in: scratch)
            #expect(outcome.status == 2 && !outcome.errors.contains("Unknown option"), "\(outcome)")
        }

        @Test("wherever a host does not answer it is asked whether it runs", arguments: Self.onAHost)
        func noHost(_ words: String) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage("a.img", megabytes: 1)
            let outcome = try RunningProcess.run(
                [Tools.causeway]
                    + words.split(separator: " ").map {
                        String($0).replacing("IMAGE", with: image).replacing("DIR", with: scratch.path)
                    },
                environment: ["CAUSEWAY_RUN_DIR": "\(scratch.path)/none"], in: scratch)
            #expect(outcome.status == 1 && outcome.errors.contains("\(scratch.path)/none/"), "\(outcome)")
            #expect(outcome.errors.contains("; is `causeway host` running?"), "\(outcome)")
            #expect(outcome.errors.split(separator: "\n").count == 1 && Self.isInWords(outcome.errors), "\(outcome)")
        }

        static let onAHost = [
            "list", "status", "metrics", "backend", "frontend vif 0 --tap cwmsg", "frontend vbd xvda --nbd DIR/s", "block-list",
            "block-attach IMAGE,raw,xvda,w", "block-detach xvda", "network-list", "network-attach mac=00:16:3e:01:02:03",
            "network-detach 0", "trace guest1/0", "trace 1/0", "top --count 1",
        ]

        @Test("a run directory that cannot be made is said in words")
        func noRunDirectory() throws {
            let scratch = try Scratch()
            for (directory, words) in [
                ("/proc/none/run", "No such file or directory"), ("\(scratch.path)/f/run", "Not a directory"),
            ] {
                _ = try scratch.makeFile("f")
                let outcome = try RunningProcess.run([Tools.causeway, "host", "--run-dir", directory], in: scratch)
                let message = "causeway: host: \(directory): cannot make this directory: \(words)\n"
                #expect(outcome.status == 1 && outcome.errors == message, "\(outcome)")
            }
        }

        @Test("a host makes the directories above its own, too, readable for others whatever the umask") func deepDirectory() throws
        {
            let scratch = try Scratch()
            let directory = "\(scratch.path)/a/b/c"
            let host = try RunningProcess(
                ["sh", "-c", "umask 077; exec \(Tools.causeway) host --run-dir \(directory)"], in: scratch)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(directory)/xenstored.sock") }, "\(host.errors)")
            kill(host.pid, SIGTERM)
            #expect(host.wait(seconds: 10)?.status == 0)
            let mode = try FileManager.default.attributesOfItem(atPath: directory)[.posixPermissions] as? Int
            #expect(mode == 0o755)
        }

        @Test("a backing that is not to be had: one line, the disk's name in it")
        func oneLine() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let holder = try RunningProcess(["flock", "--no-fork", image, "sleep", "60"], in: scratch)
            // Once it cannot be locked any more, it is.
            #expect(
                eventually(10_000) { (try? RunningProcess.run(["flock", "-n", image, "true"], in: scratch))?.status == 1 },
                "\(holder.errors)")
            let outcome = try pair(["\(image),raw,xvda,w"], options: ["-q"], command: ["true"], in: scratch)
            kill(holder.pid, SIGKILL)
            #expect(outcome.status == 1 && outcome.output.isEmpty, "\(outcome)")
            #expect(outcome.errors.hasPrefix("causeway: pair: xvda: backend: \(image): in use"), "\(outcome)")
            #expect(outcome.errors.split(separator: "\n").count == 1 && Self.isInWords(outcome.errors), "\(outcome)")
        }

        @Test("what a host has not is said once, by the command that asked for it")
        func notThere() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            for (words, errors) in [
                ("block-detach xvdz", "causeway: block-detach: xvdz: domain 1 has no such device\n"),
                ("network-detach 5", "causeway: network-detach: vif 5: domain 1 has no such device\n"),
                ("frontend vif 7 --tap cwmsg", "causeway: netfront: vif 7: domain 1 has no such device\n"),
                (
                    "frontend vbd xvdz --nbd \(scratch.path)/z",
                    "causeway: frontend: vbd 268441856: domain 1 has no such device\n"
                ),
            ] where Tools.isRoot || !words.hasPrefix("frontend vif") {
                let outcome = try pair.run([Tools.causeway] + words.split(separator: " ").map(String.init))
                #expect(outcome.status == 1 && outcome.output.isEmpty && outcome.errors == errors, "\(words): \(outcome)")
            }
            #expect(pair.stop()?.status == 0)
        }
    }
}
