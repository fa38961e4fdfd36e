// The domain that this kernel runs in, where a Xen is below.

/// What the kernel says of it.
public enum RunningDomain {
    /// Whether it is paravirtualized: then what the kernel calls a frame is not the machine's, and no device finds
    /// anything there.
    public static var isParavirtual: Bool { FileSystem.text(of: "/sys/hypervisor/guest_type") == "PV\n" }
}
