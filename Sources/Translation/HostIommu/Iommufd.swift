// The machine's IOMMU by way of iommufd (linux: <linux/iommufd.h>, Linux 6.2): one descriptor holds address spaces,
// which share the memory that is mapped into several of them. This is the descriptor; an address space is an
// `IommufdSpace`.

import CLinux
import DMA
import LinuxSystem

/// An open `/dev/iommu`. Used by one thread.
public final class Iommufd: CustomStringConvertible {
    /// By whose count the kernel locks memory (`IOMMU_OPTION_RLIMIT_MODE`).
    public enum Accounting: UInt64, Sendable {
        /// All of a user's processes together: the kernel's default.
        case byUser = 0
        /// This process alone, as VFIO type1 does. Needs `CAP_SYS_RESOURCE`, and nothing mapped yet.
        case byProcess = 1
    }

    static let name = "iommufd"
    let kernel: any IommuKernel
    let descriptor: Descriptor
    let account: LockedMemoryAccount
    var pinned = PinnedMemory()
    private var faultQueue: Descriptor?

    /// Opens it.
    /// - Parameters:
    ///   - account: what may be locked.
    ///   - accounting: nil leaves it as it is.
    ///   - kernel: whom to ask.
    public init(
        account: LockedMemoryAccount = .ofThisProcess, accounting: Accounting? = nil,
        kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) {
        self.kernel = kernel
        self.account = account
        do throws(Errno) { descriptor = try kernel.open("/dev/iommu") } catch {
            throw .unavailable(name: Self.name, what: "/dev/iommu", why: "\(error)")
        }
        if let accounting { try setAccounting(accounting) }
    }

    private func setAccounting(_ accounting: Accounting) throws(DMABackEndError) {
        var request = causeway_iommu_option()
        request.size = UInt32(MemoryLayout<causeway_iommu_option>.size)
        request.option_id = UInt32(CAUSEWAY_IOMMU_OPTION_RLIMIT_MODE)
        request.op = UInt16(CAUSEWAY_IOMMU_OPTION_OP_SET)
        request.val64 = accounting.rawValue
        try call("IOMMU_OPTION (rlimit mode)", CAUSEWAY_IOMMU_OPTION, &request)
    }

    /// How the kernel counts locked memory.
    public func accounting() throws(DMABackEndError) -> Accounting {
        var request = causeway_iommu_option()
        request.size = UInt32(MemoryLayout<causeway_iommu_option>.size)
        request.option_id = UInt32(CAUSEWAY_IOMMU_OPTION_RLIMIT_MODE)
        request.op = UInt16(CAUSEWAY_IOMMU_OPTION_OP_GET)
        try call("IOMMU_OPTION (rlimit mode)", CAUSEWAY_IOMMU_OPTION, &request)
        return Accounting(rawValue: request.val64) ?? .byUser
    }

    /// A new, empty address space.
    public func makeSpace() throws(DMABackEndError) -> IommufdSpace {
        var request = causeway_iommu_ioas_alloc()
        request.size = UInt32(MemoryLayout<causeway_iommu_ioas_alloc>.size)
        try call("IOMMU_IOAS_ALLOC", CAUSEWAY_IOMMU_IOAS_ALLOC, &request)
        return IommufdSpace(self, request.out_ioas_id)
    }

    /// Destroys an object by its number.
    func destroy(_ id: UInt32) throws(DMABackEndError) {
        var request = causeway_iommu_destroy()
        request.size = UInt32(MemoryLayout<causeway_iommu_destroy>.size)
        request.id = id
        try call("IOMMU_DESTROY of \(id)", CAUSEWAY_IOMMU_DESTROY, &request)
    }

    func call<T: BitwiseCopyable>(_ what: @autoclosure () -> String, _ request: Int, _ argument: inout T) throws(DMABackEndError) {
        do throws(Errno) { _ = try kernel.call(descriptor, request, &argument) } catch { throw .kernel(what(), error) }
    }

    // MARK: Faults

    /// Becomes readable when there is a page request; nil before `reportFaults`.
    public var faultDescriptor: Descriptor? { faultQueue }

    /// Makes a queue for page requests (Linux 6.11), which a hardware page table can be given
    /// (`IOMMU_HWPT_FAULT_ID_VALID`); returns its number.
    public func reportFaults() throws(DMABackEndError) -> UInt32 {
        var request = causeway_iommu_fault_alloc()
        request.size = UInt32(MemoryLayout<causeway_iommu_fault_alloc>.size)
        do throws(Errno) { _ = try kernel.call(descriptor, Int(CAUSEWAY_IOMMU_FAULT_QUEUE_ALLOC), &request) } catch {
            throw error == .notTTY || error == .notSupported
                ? .unsupported("queue of IO page faults") : .kernel("IOMMU_FAULT_QUEUE_ALLOC", error)
        }
        let queue = Descriptor(owning: Int32(bitPattern: request.out_fault_fd))
        do throws(Errno) { try queue.setNonBlocking(true) } catch { throw .kernel("the fault queue", error) }
        faultQueue = queue
        return request.out_fault_id
    }

    /// Reads the queue. Each request is answered "invalid": memory that is not mapped stays so, and the device is told.
    public func takeFaults() -> DMAFaults {
        var result = DMAFaults()
        guard let faultQueue else { return result }
        var request = causeway_iommu_hwpt_pgfault()
        while faultQueue.readRecord(&request) {
            let writes = request.perm & UInt32(CAUSEWAY_IOMMU_PGFAULT_PERM_WRITE) != 0
            let iova = Iova(rawValue: request.addr)
            let isMapped = pinned.isMapped(iova)
            result.add(
                DMAFault(
                    device: "device \(request.dev_id)", iova: iova,
                    cause: !isMapped ? .notMapped : writes ? .writeDenied : .readDenied))
            // One answer for a group, by the cookie of its last request.
            if request.flags & UInt32(CAUSEWAY_IOMMU_PGFAULT_LAST_PAGE) != 0 {
                var answer = causeway_iommu_hwpt_page_response()
                answer.cookie = request.cookie
                answer.code = UInt32(CAUSEWAY_IOMMUFD_PAGE_RESP_INVALID)
                // A failure leaves the kernel without an answer, which it does not wait for once the descriptor is
                // closed.
                faultQueue.writeRecord(answer)
            }
        }
        return result
    }

    /// `iommufd: 12288 of 8388608 bytes locked`.
    public var description: String { "\(Self.name): \(account)" }
}
