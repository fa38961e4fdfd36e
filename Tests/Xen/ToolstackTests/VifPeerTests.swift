// `peer`, Causeway's own parameter of a vif: both of its forms, and what it does not go with.

import LinuxSystem
import Testing
@testable import Toolstack

@Suite struct VifPeerTests {
    @Test func bothForms() throws {
        let address = try #require(MACAddress("00:16:3e:01:02:04"))
        #expect(try VifSpecification(parsing: "mac=00:16:3e:01:02:03,peer=00:16:3e:01:02:04").peer == .address(address))
        #expect(try VifSpecification(parsing: "peer=guest2/7").peer == .device(domain: "guest2", number: 7))
        #expect(try VifSpecification(parsing: "mac=00:16:3e:01:02:03").peer == nil)
    }

    @Test(arguments: [
        "peer=", "peer=x", "peer=/1", "peer=1/", "peer=1/x", "peer=1/2/3", "peer=1/-1", "peer=1/4294967296",
        "peer=ff:ff:ff:ff:ff:ff",
        "peer=1/0,peer=2/0",
        "peer=1/0,bridge=br0", "vifname=tap0,peer=1/0", "script=vif-route,peer=1/0",
        "peer=1/0,gatewaydev=eth0",
    ])
    func whatItIsNot(_ text: String) {
        #expect(throws: ToolstackError.self) { _ = try VifSpecification(parsing: text) }
    }
}
