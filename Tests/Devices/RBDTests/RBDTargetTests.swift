@testable import BlockDevices
import Testing

struct RBDTargetTests {
    private func target(_ text: String) throws(DeviceError) -> RBDTarget {
        guard case .rbd(let target) = try DeviceTarget(text) else { throw .badTarget(text, reason: "taken for something else") }
        return target
    }

    @Test func poolImageSnapshotAndOptions() throws {
        let plain = try target("rbd:rbd/disk")
        #expect(plain.pool == "rbd" && plain.image == "disk" && plain.snapshot == "" && plain.user == "admin")
        #expect(plain.configuration == nil && plain.options == [] && "\(plain)" == "rbd:rbd/disk")
        let all = try target("rbd:pool/ns/disk@monday:id=guest:conf=/etc/ceph/other.conf:mon_host=10.0.0.1\\:6789:key=a=b==")
        #expect(
            all.nameSpace == "ns" && all.snapshot == "monday" && all.user == "guest" && all.configuration == "/etc/ceph/other.conf")
        #expect(all.options == [.init(name: "mon_host", value: "10.0.0.1:6789"), .init(name: "key", value: "a=b==")])
        // A key is nobody's business.
        #expect("\(all)" == "rbd:pool/ns/disk@monday")
        let odd = try target("rbd:p\\:1/a\\/b\\@c\\\\d@s\\:1")
        #expect(odd.pool == "p:1" && odd.image == "a/b@c\\d" && odd.snapshot == "s:1")
        // A backslash before nothing takes nothing's meaning.
        #expect(try target("rbd:p/i\\").image == "i")
        #expect(try DeviceTarget("./rbd:p/i") == .path("./rbd:p/i"))
    }

    @Test(
        "what is wrong with a target is said in a sentence",
        arguments: [
            ("rbd:", "an RBD image is rbd:POOL/IMAGE"), ("rbd:pool", "an RBD image is rbd:POOL/IMAGE"),
            ("rbd:a/b/c/d", "an RBD image is rbd:POOL/IMAGE"), ("rbd:pool/", "a name is empty"), ("rbd:/image", "a name is empty"),
            ("rbd:pool//image", "a name is empty"), ("rbd:pool/image@", "a name is empty"), ("rbd:p/i@a@b", "it has two snapshots"),
            ("rbd:p/i:id", "an option is NAME=VALUE"), ("rbd:p/i:", "an option is NAME=VALUE"),
            ("rbd:p/i:=x", "an option is NAME=VALUE"),
            ("rbd:p/i:rbd_cache=true", "the option rbd_cache is Causeway's own"),
        ])
    func mistakes(_ text: String, _ words: String) throws {
        do {
            _ = try target(text)
            Issue.record("\(text) was taken")
        } catch { #expect("\(error)".contains(words)) }
    }
}
