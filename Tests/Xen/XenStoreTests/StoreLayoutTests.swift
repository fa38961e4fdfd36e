// The store's wire form, held against Xen's header by the C compiler.

import CXen
import TestSupport
import Testing
import XenStore

@Suite struct StoreLayoutTests {
    @Test(.timeLimit(.minutes(3)))
    func theStoresNumbersAreXens() throws {
        var probe = CompilerProbe()
        let names = [
            "CONTROL", "DIRECTORY", "READ", "GET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_START", "TRANSACTION_END", "INTRODUCE",
            "RELEASE", "GET_DOMAIN_PATH", "WRITE", "MKDIR", "RM", "SET_PERMS", "WATCH_EVENT", "ERROR", "IS_DOMAIN_INTRODUCED",
            "RESUME", "SET_TARGET", "RESET_WATCHES", "DIRECTORY_PART",
        ]
        #expect(names.count == StoreMessageType.allCases.count)
        for (name, type) in zip(names, StoreMessageType.allCases) { probe.expect("XS_\(name)", Int(type.rawValue)) }
        probe.expect("XS_TYPE_COUNT", Int(StoreMessageType.allCases.map(\.rawValue).max()!) + 1)
        probe.expect("sizeof(struct xsd_sockmsg)", StoreWire.headerSize)
        probe.expect("XENSTORE_PAYLOAD_MAX", StoreWire.payloadMax)
        probe.expect("XENSTORE_ABS_PATH_MAX", StoreWire.absolutePathMax)
        probe.expect("XENSTORE_REL_PATH_MAX", StoreWire.relativePathMax)
        #expect(try probe.objections() == "")
    }

    @Test func aMessageIsXensStructure() {
        let message = StoreMessage(.write, request: 0x0102_0304, transaction: 0x0506_0708, payload: [9, 9, 9])
        let header = xsd_sockmsg(type: UInt32(XS_WRITE.rawValue), req_id: 0x0102_0304, tx_id: 0x0506_0708, len: 3)
        #expect(message.bytes == withUnsafeBytes(of: header, Array.init) + [9, 9, 9])
    }
}
