// A real Xen, through the libraries of libxen-dev. Grants go through /dev/xen/gntdev and gntalloc, event channels
// through /dev/xen/evtchn, the store through our own client over /dev/xen/xenbus or xenstored's socket.

import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import XenStore
import XenTypes

/// This domain's access to the Xen that it runs on. Thread-safe. What it hands out keeps it alive.
public final class LibxenHypervisor: Hypervisor {
    /// Which domain this process runs in.
    public let domain: DomainID
    /// See `Hypervisor.time`.
    public let time: any TimeSource
    /// How the store is reached.
    public let storePath: String
    let grants: GrantDevice
    /// Made when pages are first offered: a backend needs no gntalloc, which many kernels load only on demand.
    let offers = OfferDevice.Lazy()
    /// Pages that a device reaches by their machine frames.
    let devices: DeviceGrants.Lazy

    /// Opens the devices and asks the store which domain this is.
    /// - Parameter deviceJournal: the file that notes which pages a device reaches, in memory (tmpfs); nil: none does
    ///   from here.
    /// - Throws: one message that names what is missing.
    public init(time: some TimeSource, deviceJournal: String? = nil) throws(HypervisorError) {
        self.time = time
        devices = DeviceGrants.Lazy(deviceJournal, time)
        // The libraries first: those of a loopback host (`causeway xen-run`) need no devices. What they say of devices
        // that are missing is less than we can say.
        do throws(HypervisorError) {
            grants = try GrantDevice(time: time)
            try LibxenChannel.probe()
        } catch {
            try Self.require("/dev/xen/evtchn", module: "xen-evtchn")
            try Self.require("/dev/xen/gntdev", module: "xen-gntdev")
            throw error
        }
        storePath = try XenStoreLocation.find()
        let store = try XenStoreLocation.connect(storePath, time)
        defer { store.close() }
        domain = try Self.identity(store, storePath)
    }

    /// A connection to the real store, by its device or its socket.
    public func connectStore() throws(HypervisorError) -> StoreClient { try XenStoreLocation.connect(storePath, time) }

    /// A device that is not there, or that we may not open, said in words that tell an administrator what to do.
    private static func require(_ path: String, module: String) throws(HypervisorError) {
        do throws(Errno) { try FileSystem.checkAccess(path, writing: true) } catch {
            if !FileSystem.exists("/dev/xen"), !FileSystem.exists("/sys/hypervisor/type") {
                throw .disconnected(
                    "there is no /dev/xen: this system does not run on Xen, or module \(module) is not loaded")
            }
            if error.rawValue == ENOENT { throw .disconnected("there is no \(path): load module \(module)") }
            throw .disconnected("\(path): \(error); this process needs to read and write it")
        }
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
///
/// SAFETY: a name or path is lent to a call as a C string, which the call does not keep; what it fills in is a variable
/// of our own. A variable's value is copied at once, and nothing of ours changes the environment.
enum XenStoreLocation {
    /// Xenstored's socket where the daemon runs beside us, else the kernel's device.
    static func find() throws(HypervisorError) -> String {
        var candidates = ["/run/xenstored/socket", "/var/run/xenstored/socket", "/dev/xen/xenbus", "/proc/xen/xenbus"]
        // The stock tools' own variable.
        if let given = unsafe getenv("XENSTORED_PATH") { candidates.insert(unsafe String(cString: given), at: 0) }
        var refused: (path: String, error: Errno)?
        for path in candidates {
            do throws(Errno) {
                try FileSystem.checkAccess(path, writing: true)
                return path
            } catch { if refused == nil, FileSystem.exists(path) { refused = (path, error) } }
        }
        if let refused {
            throw .disconnected("the store \(refused.path): \(refused.error); this process needs to read and write it")
        }
        throw .disconnected(
            "no store: neither \(candidates.joined(separator: " nor ")) can be opened; is xenstored running?")
    }

    static func connect(_ path: String, _ time: any TimeSource) throws(HypervisorError) -> StoreClient {
        var status = stat()
        let isSocket = unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
        do {
            if isSocket { return try StoreClient(socketPath: path, time: time) }
            return try StoreClient(descriptor: Descriptor.open(path, O_RDWR), time: time)
        } catch { throw .disconnected("\(path): \(error)") }
    }
}
