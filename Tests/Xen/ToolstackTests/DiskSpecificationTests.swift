import Testing
import TestSupport
import Toolstack

@Suite("xl's disk syntax")
struct DiskSpecificationTests {
    static func parse(_ text: String) throws -> DiskSpecification { try DiskSpecification(parsing: text) }

    static func failure(_ text: String) -> SpecificationError? {
        do {
            _ = try DiskSpecification(parsing: text)
            return nil
        } catch .specification(let error) { return error } catch { return nil }
    }

    @Test("the manual's equivalent examples are equal")
    func manualExamples() throws {
        let volumes = [
            "/dev/vg/guest-volume,,hda", "/dev/vg/guest-volume,raw,hda,rw",
            "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume", "raw:/dev/vg/guest-volume,hda,w",
            "phy:/dev/vg/guest-volume,hda,w", "tap:aio:/dev/vg/guest-volume,hda", "file:/dev/vg/guest-volume,hda,rw",
        ]
        let volume = try Self.parse(volumes[0])
        #expect(volume.target == "/dev/vg/guest-volume" && volume.format == .raw && !volume.isReadOnly)
        #expect(volume.vdev.number == 768)
        for text in volumes { #expect(try Self.parse(text) == volume, "\(text)") }

        let images = [
            "/root/image.iso,,hdc,cdrom", "/root/image.iso,,hdc,,cdrom", "/root/image.iso,raw,hdc,devtype=cdrom",
            "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
            "raw:/root/image.iso,hdc:cdrom,ro",
        ]
        let image = try Self.parse(images[0])
        #expect(image.isCDROM && image.isRemovable && image.isReadOnly && image.vdev.number == 22 << 8)
        for text in images { #expect(try Self.parse(text) == image, "\(text)") }
    }

    @Test(
        "an empty CD drive, in all its forms",
        arguments: [",hdc:cdrom,r", ",,hdc,cdrom", "vdev=hdc,cdrom", ",empty,hdc,r,cdrom"])
    func emptyDrive(_ text: String) throws {
        let drive = try Self.parse(text)
        #expect(drive.isCDROM && drive.format == .empty && drive.target.isEmpty && drive.vdev.name == "hdc")
    }

    @Test("every parameter and flag lands in its place")
    func everyParameter() throws {
        let disk = try Self.parse(
            "vdev=xvdb,format=qcow2,access=r,backend=drv,backendtype=qdisk,script=s,direct-io-safe,no-discard,untrusted,"
                + "specification=virtio,grant_usage=1,removable,colo,colo-host=h,colo-port=9,colo-export=e,active-disk=a,"
                + "hidden-disk=b,target=/a,b=c:d")
        #expect(disk.target == "/a,b=c:d" && disk.format == .qcow2 && disk.isReadOnly && disk.backend == "drv")
        #expect(disk.backendType == .qdisk && disk.script == "s" && disk.isDirectIOSafe && disk.discard == false)
        #expect(disk.trusted == false && disk.specification == .virtio && disk.grantUsage == true && disk.isRemovable)
        #expect(disk.replication.isEnabled == true && disk.replication.port == 9 && disk.replication.hiddenDisk == "b")
        #expect(try Self.parse("iscsi:iqn.x,xvda,w").script == "block-iscsi")
        #expect(try Self.parse("nbd:host,xvda,w").script == "block-nbd")
    }

    @Test("reconnect-delay is seconds, is printed, and is for NBD servers only")
    func reconnectDelay() throws {
        let disk = try Self.parse("vdev=xvda,access=rw,reconnect-delay=5,target=nbd://host/")
        #expect(disk.reconnectDelay == 5)
        #expect(try Self.parse(disk.description) == disk)
        for text in [
            "vdev=xvda,reconnect-delay=5,target=/a.img", "vdev=xvda,reconnect-delay=5s,target=nbd://host/",
            "vdev=xvda,reconnect-delay=-1,target=nbd://host/", "vdev=xvda,reconnect-delay=4294967296,target=nbd://host/",
        ] { #expect(throws: ToolstackError.self, "\(text)") { try Self.parse(text) } }
    }

    @Test("front is Xen's or vhost-user's, is printed, and given once")
    func front() throws {
        #expect(try Self.parse("/a.img,raw,xvda,w").front == nil)
        for front in DeviceFront.allCases {
            let disk = try Self.parse("/a.img,raw,xvda,w,front=\(front.rawValue)")
            #expect(disk.front == front)
            #expect(try Self.parse(disk.description) == disk)
        }
        for text in ["/a.img,raw,xvda,w,front=qemu", "/a.img,raw,xvda,w,front=", "vdev=xvda,front=xen,front=vhost-user,target=/a"] {
            #expect(throws: ToolstackError.self, "\(text)") { try Self.parse(text) }
        }
    }

    @Test("an NBD URI and a null device are targets, positional and named")
    func remoteTargets() throws {
        let unix = try Self.parse("nbd+unix:///?socket=/tmp/x,raw,xvda,w")
        #expect(unix.target == "nbd+unix:///?socket=/tmp/x" && unix.isNBD && !unix.isPath && unix.format == .raw)
        #expect(try Self.parse("vdev=xvda,target=nbd+unix:///?socket=/tmp/x") == unix)
        #expect(try Self.parse("nbd://host:10809/export,,xvda,r").target == "nbd://host:10809/export")
        let null = try Self.parse("null:16G,,xvda,w")
        #expect(null.nullDeviceSize == 16 << 30 && !null.isPath)
        #expect(try Self.parse("null:512,,xvda").nullDeviceSize == 512)
        #expect(Self.failure("null:99999999999G,,xvda")?.parameter == "target")
        #expect(Self.failure("null:+1G,,xvda") != nil)
        #expect(Self.failure("null:1Q,,xvda")?.parameter == "target")
    }

    @Test("an image of Ceph's is a target with its options, positional and named")
    func imagesOfCeph() throws {
        let disk = try Self.parse("rbd:pool/disk@s:id=guests:conf=/etc/c.conf,raw,xvda,r")
        #expect(disk.target == "rbd:pool/disk@s:id=guests:conf=/etc/c.conf" && disk.isRBD && !disk.isPath && !disk.isNBD)
        #expect(disk.format == .raw && disk.isReadOnly && disk.script == nil)
        #expect(try Self.parse("vdev=xvda,access=ro,target=\(disk.target)") == disk)
        #expect(try Self.parse("\(disk)") == disk)
        #expect(try Self.parse("vdev=xvda,target=rbd:p/i:mon_host=a,b").target == "rbd:p/i:mon_host=a,b")
        #expect(try Self.parse("vdev=xvda,reconnect-delay=5,target=rbd:p/i").reconnectDelay == 5)
        #expect(try Self.parse("./rbd:p/i,raw,xvda,w").isPath)
    }

    @Test("discard and access defaults follow each other")
    func defaults() throws {
        #expect(try Self.parse("/d,,xvda").offersDiscard)
        #expect(try !Self.parse("/d,,xvda,r").offersDiscard)
        #expect(try Self.parse("/d,,xvda,r,discard").offersDiscard)
        #expect(try !Self.parse("/d,,xvda,w,no-discard").offersDiscard)
    }

    @Test("w!: written, whoever else has the bytes; xl's block script knows it, and so does the store")
    func sharedAccess() throws {
        for text in ["a.img,raw,xvda,w!", "vdev=xvda,access=w!,target=a.img"] {
            let disk = try Self.parse(text)
            #expect(disk.isShared && !disk.isReadOnly && "\(disk)".contains("access=w!"), "\(text)")
        }
        #expect(try !Self.parse("a.img,raw,xvda,w").isShared)
        #expect(try !Self.parse("a.iso,raw,hdc,w!,cdrom").isShared, "a CD is read")
        #expect(Self.failure("a.img,raw,xvda,w,access=w!")?.parameter == "access")
        #expect("\(try #require(Self.failure("a.img,raw,xvda,x!")))".contains("(known: r, ro, w, rw, w!)"))
    }

    /// Specification, parameter at fault, column.
    static let failures: [(String, String?, Int)] = [
        ("disk.img,foo,xvda,w", "format", 10), ("disk.img,raw,xvda,rx", "access", 19), ("disk.img,raw", "vdev", 13),
        ("disk.img,raw,zzz", "vdev", 14), ("disk.img,raw,vdev=zzz", "vdev", 19), ("disk.img,raw,xvda,w,more", nil, 21),
        ("disk.img,raw,xvda,bogus=1", "bogus", 19), ("vdev=xvda", "target", 10), (",raw,xvda", "target", 1),
        ("disk.img,raw,xvda,vdev=xvdb", "vdev", 24), ("disk.img,raw,xvda,w,access=r", "access", 28),
        ("disk.img,raw,xvda,discard,no-discard", "discard", 27), ("a,raw,xvda,backendtype=loop", "backendtype", 24),
        ("a,raw,xvda,devtype=tape", "devtype", 20), ("/a=b,raw,xvda", nil, 1), ("zip:/a,xvda,w", nil, 1),
        ("a,raw,xvda,target=b", "target", 19), ("raw:qcow2:/a,xvda,w", "format", 5), ("", "vdev", 1),
        ("a,raw,xvda,w ", "access", 12), ("a,raw,xvda,backend=1,backend=2", "backend", 30),
        ("a,raw,hdc:tape", "devtype", 11),
    ]

    @Test("an error names the parameter and the column", arguments: failures)
    func errors(_ text: String, _ parameter: String?, _ column: Int) throws {
        let error = try #require(Self.failure(text), "\(text) must not parse")
        #expect(error.parameter == parameter, "\(error)")
        #expect(error.column == column, "\(error)")
    }

    @Test("the message has the specification and a caret under the column, and no control characters")
    func caret() throws {
        let lines = "\(try #require(Self.failure("a,foo\u{1B},xvda")))".split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[0] == "disk: format: unknown value `foo?` (known: raw, qcow, qcow2, vhd, qed) (column 3)")
        #expect(lines[1] == "  a,foo?,xvda")
        #expect(lines[2] == "    ^")
    }

    @Test func aTargetHasNoLineBreak() {
        for target in ["a\nb", "a\r\nb", "a\0b", "\u{2028}"] {
            #expect(throws: ToolstackError.self, "\(target.debugDescription)") {
                _ = try DiskSpecification(parsing: "/dev/\(target),raw,xvda,w")
            }
        }
    }

    @Test("print, then parse: the same disk, for ten thousand random ones")
    func roundTrip() throws {
        var random = SplitMix(7)
        for _ in 0..<10_000 {
            let disk = Self.randomDisk(&random)
            #expect(try Self.parse("\(disk)") == disk, "\(disk)")
        }
    }

    @Test("no text makes the parser trap, and what parses prints and parses back")
    func fuzz() throws {
        var random = SplitMix(11)
        let pieces = [
            "raw", ":", ",", "=", "target=", "vdev=", "xvda", "hdc", "cdrom", "w", " ", "nbd+unix://", "nbd:", "rbd:", "\n",
            "é", "\0",
            "format", "backend=", "d0p0", "0x", "null:", "9", "access=", "devtype=", "colo-port=", "no-discard", "\t",
        ]
        var parsed = 0
        for _ in 0..<20_000 {
            let start = Bool.random(using: &random) ? "a,,xvda," : ""
            let text =
                start
                + (0..<Int.random(in: 0...12, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }
                .joined(separator: Bool.random(using: &random) ? "," : "")
            guard let disk = try? Self.parse(text) else { continue }
            parsed += 1
            #expect(try Self.parse("\(disk)") == disk, "\(text)")
        }
        #expect(parsed > 20)
    }

    static func randomDisk(_ random: inout SplitMix) -> DiskSpecification {
        func text(_ alphabet: String) -> String {
            String(
                (0..<Int.random(in: 1...9, using: &random)).compactMap { _ in alphabet.randomElement(using: &random) })
        }
        let vdevs = ["xvda", "sdb3", "hdd", "d536p37", "51712", "0xca00", "xvdzz"]
        var disk = DiskSpecification(
            target: text("/ab,=: .?"), format: [.raw, .qcow2, .vhd, .qed, .qcow].randomElement(using: &random) ?? .raw,
            vdev: VirtualDevice(vdevs.randomElement(using: &random) ?? "xvda")
                ?? VirtualDevice("xvda").unsafelyUnwrapped,
            isReadOnly: Bool.random(using: &random))
        if Bool.random(using: &random) {
            (disk.isCDROM, disk.isRemovable, disk.isReadOnly) = (true, true, true)
            if Bool.random(using: &random) { (disk.target, disk.format) = ("", .empty) }
        } else {
            disk.isRemovable = Bool.random(using: &random)
        }
        if Bool.random(using: &random) { disk.backend = text("abc09-") }
        disk.backendType = [nil, .phy, .qdisk, .tap, .standalone].randomElement(using: &random) ?? nil
        if Bool.random(using: &random) { disk.script = text("abc/-. ") }
        disk.isShared = !disk.isReadOnly && Bool.random(using: &random)
        disk.isDirectIOSafe = Bool.random(using: &random)
        disk.discard = [nil, true, false].randomElement(using: &random) ?? nil
        disk.trusted = [nil, true, false].randomElement(using: &random) ?? nil
        disk.grantUsage = [nil, true, false].randomElement(using: &random) ?? nil
        disk.specification = Bool.random(using: &random) ? .xen : .virtio
        return disk
    }
}
