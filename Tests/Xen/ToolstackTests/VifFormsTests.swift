import LinuxSystem
import Testing

@testable import Toolstack

@Suite struct VifFormsTests {
    @Test("what xl takes is taken: octets of one digit, blanks on either side of a comma")
    func taken() throws {
        let address = MACAddress("00:16:3e:01:02:03")
        #expect(try VifSpecification(parsing: "mac=0:16:3e:1:2:3").mac == address)
        #expect(try VifSpecification(parsing: "mac=00-16-3e-1-2-3").mac == address)
        #expect(try VifSpecification(parsing: "netdev=eth0").gatewayDevice == "eth0")
        let vif = try VifSpecification(parsing: " mac=00:16:3e:01:02:03 , mtu=1400 ,\tbridge=br0 ")
        #expect(vif.mac == address && vif.mtu == 1400 && vif.bridge == "br0")
    }

    @Test("the flags that xl has without a value")
    func flags() throws {
        #expect(try VifSpecification(parsing: "trusted,mtu=1400").trusted == true)
        #expect(try VifSpecification(parsing: "mtu=1400, untrusted ").trusted == false)
        #expect(try VifSpecification(parsing: "mtu=1400").trusted == nil)
    }

    @Test("VLANs as xl's manual has them: one, marked ones, ranges, series")
    func vlans() throws {
        typealias Seen = (numbers: [UInt16], isPrimary: Bool, isUntagged: Bool)
        let cases: [(String, [Seen])] = [
            ("10", [([10], true, true)]), ("10u", [([10], true, true)]), ("4094p", [([4094], true, true)]),
            ("10p/20", [([10], true, true), ([20], false, false)]),
            ("10p/100+10x4", [([10], true, true), ([100, 110, 120, 130, 140], false, false)]),
            ("1p/5-8u/20u", [([1], true, true), ([5, 6, 7, 8], false, true), ([20], false, true)]),
            ("10p/30+1x0", [([10], true, true), ([30], false, false)]),
        ]
        for (text, expected) in cases {
            let vlans = try #require(try VifSpecification(parsing: "vlan=\(text),bridge=br0").vlans)
            #expect(vlans.description == text && vlans.terms.count == expected.count)
            for (term, seen) in zip(vlans.terms, expected) {
                #expect(term.numbers == seen.numbers && term.isPrimary == seen.isPrimary && term.isUntagged == seen.isUntagged)
            }
        }
    }

    @Test(
        "nonsense is refused with the parameter and the column",
        arguments: [
            ("mac=00:00:00:00:00:00", "mac: 00:00:00:00:00:00 is nobody's address (column 5)"),
            ("mac=0:16:3e:1:2", "mac: `0:16:3e:1:2` is no Ethernet address (column 5)"),
            ("mac=000:16:3e:1:2:3", "mac: `000:16:3e:1:2:3` is no Ethernet address (column 5)"),
            ("mac=:16:3e:1:2:3", "mac: `:16:3e:1:2:3` is no Ethernet address (column 5)"),
            ("vifname=a%d", "vifname: `a%d` is no interface's name (column 9)"),
            ("vifname=all", "vifname: `all` is no interface's name (column 9)"),
            ("bridge=default", "bridge: `default` is no interface's name (column 8)"),
            ("mac=00-16:3e-1-2-3", "mac: `00-16:3e-1-2-3` is no Ethernet address (column 5)"),
            ("vifname=a:b", "vifname: `a:b` is no interface's name (column 9)"),
            ("bridge=..", "bridge: `..` is no interface's name (column 8)"),
            ("vifname=0123456789abcdef", "vifname: `0123456789abcdef` is no interface's name (column 9)"),
            ("front=qemu", "front: `qemu` is neither xen nor vhost-user (column 7)"),
            ("peer=00:00:00:00:00:00", "peer: 00:00:00:00:00:00 is nobody's address (column 6)"),
            (
                "mac=00:16:3e:01:02:03,peer=0:16:3e:1:2:3",
                "peer: 00:16:3e:01:02:03 at both ends: an interface cannot be its own peer (column 28)"
            ),
            ("vlan=0", "vlan: `0` is no VLAN: 1 to 4094 (column 6)"),
            ("mac=0:16:3e:1:2:3,vlan=10p/4095", "vlan: `4095` is no VLAN: 1 to 4094 (column 28)"),
            ("vlan=10p/x", "vlan: `x` is no VLAN: 1 to 4094 (column 10)"),
            ("vlan=10/20", "vlan: none is marked `p`: frames without a tag have to be one VLAN's (column 6)"),
            ("vlan=10p/20p", "vlan: a second `p`: frames without a tag are one VLAN's (column 10)"),
            ("vlan=10p/5-20", "vlan: VLAN 10 is given twice (column 10)"),
            ("vlan=10p/30-20", "vlan: `30-20` runs backwards (column 10)"),
            ("vlan=10p/20-29p", "vlan: `20-29p`: `p` is for one VLAN (column 10)"),
            ("vlan=10q", "vlan: `10q` is no VLAN such as 10, 10p, 20-29u or 100+10x4 (column 6)"),
            ("vlan=10p/100+10", "vlan: `100+10` is no series such as 100+10x4 (column 13)"),
            ("vlan=10p/4000+10x10", "vlan: `4000+10x10` goes on to 4100; VLANs are 1 to 4094 (column 14)"),
            ("vlan=5,peer=0:16:3e:1:2:3", "vlan: an interface with a peer has nothing on the backend's side (column 8)"),
            ("trusted,untrusted", "trusted: given twice (column 9)"),
            ("mistrusted", "`mistrusted` is not of the form KEY=VALUE (column 1)"),
        ])
    func refused(_ text: String, _ reason: String) {
        #expect(throws: ToolstackError.self) { try VifSpecification(parsing: text) }
        do { _ = try VifSpecification(parsing: text) } catch {
            #expect("\(error)".split(separator: "\n").first == "vif: \(reason)")
        }
    }
}
