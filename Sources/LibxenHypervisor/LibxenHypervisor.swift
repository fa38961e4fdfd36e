// A real Xen, through the libraries of libxen-dev. Grants go through /dev/xen/gntdev and gntalloc, event channels through
// /dev/xen/evtchn, the store through our own client over /dev/xen/xenbus or xenstored's socket.

import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import XenStore
import XenWire

/// This domain's access to the Xen that it runs on. Thread-safe. What it hands out keeps it alive.
public final class LibxenHypervisor: Hypervisor {
    /// Which domain this process runs in.
    public let domain: DomainID
    /// How the store is reached.
    public let storePath: String
    let grants: GrantDevice
    /// Made when pages are first offered: a backend needs no gntalloc, which many kernels load only on demand.
    let offers = OfferDevice.Lazy()

    /// Opens the devices and asks the store which domain this is.
    /// - Throws: one message that names what is missing.
    public init() throws(HypervisorError) {
        try Self.require("/dev/xen/evtchn", module: "xen-evtchn")
        try Self.require("/dev/xen/gntdev", module: "xen-gntdev")
        grants = try GrantDevice()
        storePath = try XenStoreLocation.find()
        let store = try XenStoreLocation.connect(storePath)
        defer { store.close() }
        domain = try Self.identity(store, storePath)
    }

    /// A connection to the real store, by its device or its socket.
    public func connectStore() throws(HypervisorError) -> StoreClient { try XenStoreLocation.connect(storePath) }

    /// A device that is not there, or that we may not open, said in words that tell an administrator what to do.
    private static func require(_ path: String, module: String) throws(HypervisorError) {
        if unsafe access(path, R_OK | W_OK) == 0 { return }
        let error = Errno.current
        if unsafe access("/dev/xen", F_OK) != 0, unsafe access("/sys/hypervisor/type", F_OK) != 0 {
            throw .disconnected(
                "there is no /dev/xen: this system does not run on Xen, or module \(module) is not loaded")
        }
        if error.rawValue == ENOENT { throw .disconnected("there is no \(path): load module \(module)") }
        throw .disconnected("\(path): \(error); this process needs to read and write it")
    }

    /// `domid`, relative to the caller's home in the store: what the store knows us as, not what we say.
    private static func identity(_ store: StoreClient, _ path: String) throws(HypervisorError) -> DomainID {
        let text: String
        do throws(StoreError) { text = try store.read("domid") } catch {
            throw .disconnected(
                "\(path): cannot read this domain's number (`domid`): \(error); in dom0, xen-init-dom0 writes it")
        }
        guard let number = UInt16(text), DomainID(number).isOrdinary else {
            throw .disconnected("\(path): `domid` is \"\(text.prefix(20))\", which is no domain's number")
        }
        return DomainID(number)
    }
}

/// Where a Xen host's store is.
enum XenStoreLocation {
    /// Xenstored's socket where the daemon runs beside us, else the kernel's device.
    static func find() throws(HypervisorError) -> String {
        var candidates = ["/run/xenstored/socket", "/var/run/xenstored/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]
        // The stock tools' own variable.
        if let given = unsafe getenv("XENSTORED_PATH") { candidates.insert(unsafe String(cString: given), at: 0) }
        for path in candidates where unsafe access(path, R_OK | W_OK) == 0 { return path }
        if let path = candidates.first(where: { unsafe access($0, F_OK) == 0 }) {
            _ = unsafe access(path, R_OK | W_OK)
            throw .disconnected("the store \(path): \(Errno.current); this process needs to read and write it")
        }
        throw .disconnected(
            "no store: neither \(candidates.joined(separator: " nor ")) can be opened; is xenstored running?")
    }

    static func connect(_ path: String) throws(HypervisorError) -> StoreClient {
        var status = stat()
        let isSocket = unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
        do {
            if isSocket { return try StoreClient(socketPath: path) }
            return try StoreClient(descriptor: Descriptor.open(path, O_RDWR))
        } catch { throw .disconnected("\(path): \(error)") }
    }
}
