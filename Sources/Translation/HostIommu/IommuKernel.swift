// The seam between the kernel back ends and the kernel: two calls. Tests put a kernel of their own behind it.

import LinuxSystem

/// What the back ends need of a kernel.
public typealias IommuKernel = DeviceControl
