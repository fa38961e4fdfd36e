// swift-tools-version: 6.2
// Causeway: a Xen-style split-driver system in user space. The wings below are the folders of Sources/, each standing
// only on those before it; Docs/architecture.md draws them, and tools/checks/imports.sh holds this file to it.

import PackageDescription

/// Every Swift target: Swift 6 mode, and strict memory safety as an error, so that each unsafe operation is spelt out.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatWarning("StrictMemorySafety", as: .error),
    .enableExperimentalFeature("Lifetimes"),
]

/// The version nodes of the stand-in for Xen's libraries; without them, programs that were linked with Xen's own
/// complain of every symbol. SwiftPM has no safe way to name a linker's script, and refuses a product with unsafe flags
/// to whoever depends on a version of its package; so a copy that was fetched for somebody else does without. Nobody
/// links this library: programs find it in the place of Xen's, as it is built here.
let versionNodes: [LinkerSetting] =
    ["/checkouts/", "/registry/downloads/"].contains { Context.packageDirectory.contains($0) }
    ? [] : [.unsafeFlags(["-Xlinker", "--version-script=\(Context.packageDirectory)/Packaging/causeway-libxen.map"])]

/// A folder of Sources/ and of Tests/: its modules are its folders.
struct Wing {
    let folder: String

    func module(
        _ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = [], adding settings: [SwiftSetting] = []
    ) -> Target {
        .target(
            name: name, dependencies: dependencies, path: "Sources/\(folder)/\(name)", exclude: exclude,
            swiftSettings: strict + settings)
    }

    func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
        .testTarget(
            name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(folder)/\(name)Tests", resources: resources,
            swiftSettings: [.swiftLanguageMode(.v6)])
    }
}

/// What tests stand on: a folder of Tests/Support.
func support(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Tests/Support/\(name)", swiftSettings: [.swiftLanguageMode(.v6)])
}

/// A program that tests or the lab start as a process of its own.
func program(_ name: String, at path: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, swiftSettings: strict)
}

let host = Wing(folder: "Host")
let translation = Wing(folder: "Translation")
let xen = Wing(folder: "Xen")
let hypervisors = Wing(folder: "Hypervisors")
let devices = Wing(folder: "Devices")
let runtime = Wing(folder: "Drivers/Runtime")
let block = Wing(folder: "Drivers/Block")
let network = Wing(folder: "Drivers/Network")
let virtio = Wing(folder: "Drivers/Virtio")
let exports = Wing(folder: "Exports")
let command = Wing(folder: "Command")

let package = Package(
    name: "causeway",
    products: [
        .executable(name: "causeway", targets: ["causeway"]),
        .library(name: "CausewayNBD", type: .dynamic, targets: ["NBDExport"]),
        .library(name: "BlockBackend", targets: ["BlockBackend", "BlockDevices"]),
        .library(name: "BlockFrontend", targets: ["BlockFrontend"]),
        // A frontend's disk for NBD clients.
        .library(name: "NBDServer", targets: ["NBDServer", "BlockFrontend", "Reactor", "LinuxSystem"]),
        .library(name: "BlockDevices", targets: ["BlockDevices", "Reactor", "DMA", "SharedMemory", "LinuxSystem"]),
        // A namespace of a real NVMe controller as a disk.
        .library(name: "NVMe", targets: ["NVMe", "BlockDevices", "HostIommu", "DMA", "SharedMemory", "LinuxSystem"]),
        .library(name: "NetworkBackend", targets: ["NetworkBackend", "NetworkDevices", "Packets"]),
        .library(name: "VifTaps", targets: ["VifTaps", "NetworkBackend", "NetworkDevices", "Packets"]),
        .library(name: "NetworkFrontend", targets: ["NetworkFrontend", "NetworkDevices", "Packets"]),
        .library(name: "NetworkDevices", targets: ["NetworkDevices", "Packets", "Reactor", "DMA", "SharedMemory", "LinuxSystem"]),
        .library(name: "XenTranslation", targets: ["FrameMaps", "FrameMapReaders", "DMA", "HostIommu", "SharedMemory"]),
        // For tools that are not Swift: libcauseway-translation.so, with causeway_translation.h.
        .library(name: "causeway-translation", type: .dynamic, targets: ["TranslationLibrary"]),
        // For programs of Xen's own: libcauseway-libxen.so, in the place of four of Xen's libraries.
        .library(name: "causeway-libxen", type: .dynamic, targets: ["LibxenCompat"]),
        .library(name: "Interrupts", targets: ["Interrupts"]),
        // What all of them are given, time and chance, and what they throw.
        .library(name: "LinuxSystem", targets: ["LinuxSystem"]),
        .library(name: "XenStore", targets: ["XenStore", "XenStoreServer"]),
        .library(name: "Loopback", targets: ["Loopback"]),
        .library(name: "InProcess", targets: ["InProcess"]),
        .library(name: "Toolstack", targets: ["Toolstack"]),
        .library(name: "MockPeers", targets: ["MockPeers", "Hypervisor", "InProcess", "Toolstack"]),
        .library(name: "VirtioRing", targets: ["VirtioRing", "VirtioWire", "SharedMemory"]),
        .library(name: "DeviceState", targets: ["DeviceState"]),
        // Devices on a bus, for callers in the same process: disks, interfaces, flat pages; and the same for domains.
        .library(
            name: "DeviceBus",
            targets: [
                "BusDisk", "BusInterface", "DeviceBus", "LinuxSystem", "PageDevices", "Reactor", "VirtioBlock", "VirtioBus",
                "VirtioNetwork",
            ]),
        .library(name: "XenDeviceBus", targets: ["XenDeviceBus", "DeviceBus", "PageDevices"]),
        .library(
            name: "VhostUser", targets: ["VhostUser", "DeviceState", "VirtioRing", "VirtioWire", "SharedMemory", "LinuxSystem"]),
        .library(
            name: "VirtioBlock",
            targets: ["VirtioBlock", "VhostUser", "BlockDevices", "DeviceState", "Reactor", "LinuxSystem"]),
        .library(
            name: "VirtioNetwork", targets: ["VirtioNetwork", "VhostUser", "VirtioRing", "VirtioWire", "NetworkDevices", "Reactor"]),
        // What an NVMe controller's driver is held against, by tests and fuzzers.
        .library(name: "NVMeModel", targets: ["NVMeModel"]),
        // What virtqueues are held against, by tests, fuzzers and benchmarks.
        .library(name: "VirtioModel", targets: ["VirtioModel", "CVirtio"]),
        .library(name: "SharedRing", targets: ["SharedRing", "BlockProtocol", "NetworkProtocol", "XenTypes", "SharedMemory"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // Host: Linux, its memory and its threads. C headers, system calls and libraries first.
        .target(name: "CLinux", path: "Sources/Host/C/CLinux"),
        .systemLibrary(name: "CUring", path: "Sources/Host/C/CUring", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .systemLibrary(name: "CNBD", path: "Sources/Host/C/CNBD", pkgConfig: "libnbd", providers: [.apt(["libnbd-dev"])]),
        // Of librbd it has the prototypes alone: the library is loaded when an image is opened.
        .target(name: "CRBD", path: "Sources/Host/C/CRBD"),
        .target(name: "CNBDKit", dependencies: ["CLinux"], path: "Sources/Host/C/CNBDKit"),
        .systemLibrary(name: "CXen", path: "Sources/Host/C/CXen"),
        .target(
            name: "CXenControl", path: "Sources/Host/C/CXenControl",
            linkerSettings: ["xencall", "xenforeignmemory", "xentoollog"].map { .linkedLibrary($0) }),
        host.module("LinuxSystem", ["CLinux"]),
        host.module("SharedMemory", ["CLinux", "LinuxSystem"]),
        host.module("Reactor", ["CLinux", "CUring", "LinuxSystem", "SharedMemory"]),
        host.module("Confinement", ["LinuxSystem"]),
        host.module("LibNBD", ["CNBD", "LinuxSystem", "SharedMemory"]),
        host.module("LibRBD", ["CLinux", "CRBD", "LinuxSystem", "SharedMemory"]),

        // Translation: from pseudo-physical frames to bus addresses. No Xen interface in it but the tables that its
        // readers know.
        translation.module("FrameMaps", ["CLinux"]),
        translation.module("DMA", ["FrameMaps", "SharedMemory"]),
        translation.module("HostIommu", ["CLinux", "DMA", "FrameMaps", "LinuxSystem", "SharedMemory"]),
        translation.module("FrameMapReaders", ["FrameMaps", "LinuxSystem"]),
        translation.module(
            "LiveDomains", ["CXenControl", "FrameMapReaders", "FrameMaps", "LinuxSystem"],
            adding: [.enableExperimentalFeature("SafeInteropWrappers")]),

        // Xen: the forms that all device classes share. Knows no class of device.
        xen.module("XenTypes"),
        xen.module("XenStore", ["LinuxSystem", "XenTypes"]),
        xen.module("XenStoreServer", ["LinuxSystem", "XenStore", "XenTypes"]),
        xen.module("XenBus", ["LinuxSystem", "XenStore", "XenTypes"]),
        xen.module("SharedRing", ["SharedMemory"]),
        xen.module("Toolstack", ["LinuxSystem", "XenStore", "XenTypes"]),

        // Hypervisors: what a driver needs of one, and those there are.
        hypervisors.module("Hypervisor", ["LinuxSystem", "SharedMemory", "XenStore", "XenTypes"]),
        hypervisors.module("HypervisorRules", ["SharedMemory", "XenTypes"]),
        hypervisors.module(
            "InProcess",
            ["Hypervisor", "HypervisorRules", "LinuxSystem", "SharedMemory", "XenStore", "XenStoreServer", "XenTypes"]
        ),
        hypervisors.module(
            "Simulation", ["HypervisorRules", "InProcess", "LinuxSystem", "XenStore", "XenTypes"]
        ),
        hypervisors.module(
            "Loopback",
            ["CLinux", "Hypervisor", "HypervisorRules", "LinuxSystem", "SharedMemory", "XenStore", "XenStoreServer", "XenTypes"]
        ),
        hypervisors.module("Libxen", ["CXen", "Hypervisor", "LinuxSystem", "SharedMemory", "XenStore", "XenTypes"]),
        hypervisors.module("Interrupts", ["Hypervisor", "LinuxSystem"]),

        // Devices: what a backend drives. They see bus addresses and know no ring, hypervisor or connector.
        devices.module("DeviceState"),
        devices.module("DeviceFaults", ["LinuxSystem"]),
        devices.module("DeviceControl", ["DeviceFaults", "DeviceState"]),
        devices.module("DeviceBus", ["LinuxSystem", "SharedMemory"]),
        devices.module("PageDevices", ["DeviceBus", "LinuxSystem", "SharedMemory"]),
        devices.module("Packets", ["DMA", "SharedMemory"]),
        devices.module(
            "BlockDevices",
            [
                "CLinux", "DMA", "DeviceControl", "DeviceFaults", "DeviceState", "LibNBD", "LinuxSystem", "Reactor",
                "SharedMemory",
            ]),
        // A real device, by its bus addresses.
        devices.module(
            "NVMe", ["BlockDevices", "DMA", "HostIommu", "LinuxSystem", "Reactor", "SharedMemory"]),
        devices.module("NetworkDevices", ["CLinux", "DMA", "DeviceFaults", "LinuxSystem", "Packets", "Reactor", "SharedMemory"]),
        // Images of a Ceph cluster.
        devices.module("RBD", ["BlockDevices", "DMA", "LibRBD", "LinuxSystem", "Reactor", "SharedMemory"]),

        // Drivers: the two ends of each class of device, and what they run on.
        runtime.module(
            "DriverRuntime",
            [
                "DMA", "DeviceControl", "DeviceState", "Hypervisor", "LinuxSystem", "Reactor", "SharedMemory", "SharedRing",
                "XenBus", "XenStore", "XenTypes",
            ]
        ),
        runtime.module("DeviceTrace", ["LinuxSystem", "SharedMemory", "XenBus", "XenTypes"]),
        // What a ring's end does wrong on purpose.
        runtime.module("RingFaults", ["DeviceFaults", "LinuxSystem", "SharedMemory", "SharedRing"]),
        runtime.module(
            "XenDeviceBus",
            [
                "DeviceBus", "DriverRuntime", "Hypervisor", "Interrupts", "LinuxSystem", "PageDevices", "Reactor",
                "SharedMemory", "XenBus", "XenStore", "XenTypes",
            ]
        ),
        // Virtio: the other world's wire, rings and sessions. Imports nothing of Xen's but the table of interrupts,
        // which knows event channels beside eventfds.
        virtio.module("VirtioWire", ["SharedMemory"]),
        virtio.module("VirtioRing", ["SharedMemory", "VirtioWire"]),
        virtio.module("VirtioMemory", ["DMA", "FrameMaps", "SharedMemory", "VirtioRing"]),
        // Where virtio meets Xen: a driver's addresses as grants.
        virtio.module("VirtioGrants", ["Hypervisor", "SharedMemory", "VirtioRing", "VirtioWire", "XenTypes"]),
        virtio.module("VirtioInterrupts", ["Interrupts", "LinuxSystem", "Reactor"]),
        virtio.module("VhostUser", ["DeviceControl", "DeviceState", "LinuxSystem", "SharedMemory", "VirtioRing", "VirtioWire"]),
        virtio.module(
            "VirtioBus",
            [
                "DeviceBus", "DeviceControl", "DeviceState", "LinuxSystem", "PageDevices", "SharedMemory", "VhostUser",
                "VirtioRing", "VirtioWire",
            ]),
        block.module("BlockModel", ["BlockDevices", "DMA", "DeviceControl", "DeviceState", "LinuxSystem"]),
        block.module(
            "VirtioBlock",
            [
                "BlockDevices", "BlockModel", "DMA", "DeviceState", "Interrupts", "LinuxSystem", "Reactor", "SharedMemory",
                "VhostUser", "VirtioInterrupts", "VirtioMemory", "VirtioRing", "VirtioWire",
            ]
        ),
        block.module(
            "BusDisk", ["DeviceBus", "LinuxSystem", "Reactor", "SharedMemory", "VirtioBus", "VirtioRing", "VirtioWire"]),
        block.module("BlockProtocol", ["SharedMemory", "SharedRing", "XenBus", "XenStore", "XenTypes"]),
        block.module(
            "BlockFrontend",
            [
                "BlockProtocol", "DeviceFaults", "Hypervisor", "LinuxSystem", "RingFaults", "SharedMemory", "SharedRing",
                "XenBus", "XenStore", "XenTypes",
            ]
        ),
        block.module("BlockTrace", ["BlockProtocol", "DeviceTrace", "SharedMemory"]),
        block.module(
            "BlockBackend",
            [
                "BlockDevices", "BlockModel", "BlockProtocol", "BlockTrace", "DMA", "DeviceControl", "DeviceFaults",
                "DeviceState", "DeviceTrace", "DriverRuntime", "FrameMaps", "Hypervisor", "LinuxSystem", "NVMe", "RBD",
                "Reactor", "RingFaults", "SharedMemory", "SharedRing", "XenBus", "XenStore", "XenTypes",
            ]
        ),
        network.module(
            "NetworkProtocol",
            ["LinuxSystem", "Packets", "SharedMemory", "SharedRing", "XenBus", "XenStore", "XenTypes"]
        ),
        network.module("NetworkTrace", ["DeviceTrace", "NetworkProtocol", "Packets", "SharedMemory", "XenTypes"]),
        network.module(
            "NetworkFrontend",
            [
                "DMA", "DeviceFaults", "DriverRuntime", "Hypervisor", "LinuxSystem", "NetworkDevices", "NetworkProtocol",
                "Packets", "Reactor", "RingFaults", "SharedMemory", "SharedRing", "XenBus", "XenStore", "XenTypes",
            ]
        ),
        network.module(
            "NetworkBackend",
            [
                "DMA", "DeviceControl", "DeviceFaults", "DeviceState", "DeviceTrace", "DriverRuntime", "FrameMaps",
                "Hypervisor", "LinuxSystem", "NetworkDevices", "NetworkProtocol", "NetworkTrace", "Packets", "Reactor",
                "RingFaults", "SharedMemory", "SharedRing", "XenBus", "XenStore", "XenTypes",
            ]
        ),
        network.module(
            "VirtioNetwork",
            [
                "DMA", "DeviceControl", "DeviceState", "Interrupts", "LinuxSystem", "NetworkDevices", "Packets", "Reactor",
                "SharedMemory", "VhostUser", "VirtioInterrupts", "VirtioMemory", "VirtioRing", "VirtioWire",
            ]
        ),
        network.module(
            "BusInterface", ["DeviceBus", "LinuxSystem", "SharedMemory", "VirtioBus", "VirtioRing", "VirtioWire"]),
        network.module(
            "VifTaps",
            [
                "DMA", "DriverRuntime", "LinuxSystem", "NetworkBackend", "NetworkDevices", "Packets", "XenBus", "XenTypes",
            ]
        ),

        // Exports: Causeway inside other programs.
        .systemLibrary(name: "CCausewayTranslation", path: "Sources/Exports/CCausewayTranslation"),
        exports.module(
            "NBDExport",
            [
                "BlockFrontend", "BlockProtocol", "CLinux", "CNBDKit", "Confinement", "Hypervisor", "Libxen", "LinuxSystem",
                "Loopback", "XenBus", "XenTypes",
            ]
        ),
        exports.module(
            "NBDServer", ["BlockFrontend", "BlockProtocol", "LinuxSystem", "Reactor", "SharedMemory"]),
        .target(
            name: "CLibxenCompat", path: "Sources/Exports/CLibxenCompat",
            linkerSettings: ["xentoolcore", "xentoollog"].map { .linkedLibrary($0) }),
        .target(
            name: "LibxenCompat",
            dependencies: [
                "CLibxenCompat", "Hypervisor", "HypervisorRules", "LinuxSystem", "Loopback", "SharedMemory", "XenTypes",
            ],
            path: "Sources/Exports/LibxenCompat", swiftSettings: strict,
            linkerSettings: versionNodes),
        exports.module(
            "TranslationLibrary",
            ["CCausewayTranslation", "DMA", "FrameMapReaders", "FrameMaps", "HostIommu", "LinuxSystem", "SharedMemory"]),

        // Command: what people type. What its subcommands and the benchmarks have in common is below both.
        command.module(
            "CommandSupport",
            [
                .product(name: "Logging", package: "swift-log"), "BlockDevices", "HostIommu", "Hypervisor", "HypervisorRules",
                "LinuxSystem", "Loopback", "Toolstack", "XenStore", "XenTypes",
            ]
        ),
        command.module(
            "Benchmarks",
            [
                "BlockFrontend", "CommandSupport", "Hypervisor", "Interrupts", "LinuxSystem", "Loopback", "NetworkDevices",
                "NetworkFrontend", "Reactor", "SharedMemory", "Toolstack", "XenStore", "XenTypes",
            ]
        ),
        command.module(
            "SimulatedWorlds",
            [
                "BlockBackend", "BlockDevices", "BlockFrontend", "BlockProtocol", "DMA", "DriverRuntime", "FrameMaps",
                "HypervisorRules", "InProcess", "LinuxSystem", "Reactor", "SharedMemory", "Simulation", "Toolstack", "XenBus",
                "XenTypes",
            ]
        ),
        program(
            "causeway-sim", at: "Sources/Command/causeway-sim",
            [.product(name: "ArgumentParser", package: "swift-argument-parser"), "LinuxSystem", "SimulatedWorlds", "Simulation"]
        ),
        program(
            "causeway", at: "Sources/Command/causeway",
            [
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"), "Benchmarks", "BlockBackend", "BlockDevices", "BlockFrontend",
                "BlockModel", "BlockTrace", "CommandSupport", "Confinement", "DMA", "DeviceControl", "DeviceFaults",
                "DeviceState", "DeviceTrace", "DriverRuntime", "FrameMapReaders", "FrameMaps", "HostIommu", "Hypervisor",
                "HypervisorRules", "Libxen", "LinuxSystem", "LiveDomains", "Loopback", "NBDServer", "NVMe", "NetworkBackend",
                "NetworkDevices", "NetworkFrontend", "NetworkProtocol", "NetworkTrace", "RBD", "Reactor", "Toolstack",
                "VhostUser", "VifTaps", "VirtioBlock", "VirtioNetwork", "XenBus", "XenStore", "XenTypes",
            ]
        ),

        // Tests, in the same wings; what they share is in Support.
        .target(name: "CRingMacros", path: "Tests/Support/CRingMacros"),
        .target(name: "CVirtio", path: "Tests/Support/CVirtio"),
        support(
            "TestSupport",
            ["DMA", "FrameMaps", "Hypervisor", "HypervisorRules", "InProcess", "LinuxSystem", "SharedMemory", "XenTypes"]),
        // An NVMe controller by the specification, which notes what its driver does wrong, and lies where it is told
        // to.
        support("NVMeModel", ["DMA", "LinuxSystem", "NVMe", "SharedMemory"]),
        // Ceph's library with one image in memory, which answers as a test wants it.
        .target(name: "CFakeRBD", dependencies: ["CRBD"], path: "Tests/Support/CFakeRBD"),
        support("ScriptedDevices", ["BlockDevices", "DMA", "LinuxSystem", "Reactor", "TestSupport"]),
        support("DumpWriter"),
        // Virtqueues as the specification has them, slow and obvious: for property tests and fuzzers.
        support("VirtioModel", ["SharedMemory"]),
        // What a driver's tests stand on: the in-process hypervisor, or the loopback host through Xen's libraries.
        support(
            "TestHosts",
            [
                "Hypervisor", "HypervisorRules", "InProcess", "Libxen", "LinuxSystem", "Loopback", "SharedMemory",
                "TestSupport", "XenStore", "XenStoreServer", "XenTypes",
            ]
        ),
        // Devices under each of the connectors, for tests that are the same under all of them.
        support(
            "Connectors",
            [
                "BlockBackend", "BlockDevices", "BlockFrontend", "BusDisk", "BusInterface", "DeviceBus", "DriverRuntime",
                "InProcess", "LinuxSystem", "NetworkBackend", "NetworkDevices", "NetworkFrontend", "PageDevices", "Reactor",
                "SharedMemory", "TestSupport", "Toolstack", "VhostUser", "VirtioBlock", "VirtioBus", "VirtioNetwork",
                "VirtioRing", "VirtioWire", "XenDeviceBus", "XenTypes",
            ]),
        // The other side of a driver under test, well-behaved or hostile: a product, for drivers that are not in this
        // package, too.
        support(
            "MockPeers",
            [
                "BlockProtocol", "Hypervisor", "NetworkProtocol", "SharedMemory", "SharedRing", "Toolstack", "XenBus",
                "XenStore", "XenTypes",
            ]
        ),
        // A confined process that tries what it may not do.
        .target(name: "CAttempts", path: "Tests/Support/CAttempts"),
        program("confined-probe", at: "Tests/Support/ConfinedProbe", ["CAttempts", "Confinement"]),
        // A domain's process for the tests that kill, stop and attack one.
        program(
            "loopback-probe", at: "Tests/Support/LoopbackProbe",
            ["Hypervisor", "LinuxSystem", "Loopback", "SharedMemory", "XenTypes"]),
        // Guests' processes for the lab, that lie to their backends on a real Xen (tools/lab).
        program(
            "hostile-frontend", at: "Tests/Support/HostileFrontend",
            ["BlockProtocol", "Hypervisor", "Libxen", "LinuxSystem", "SharedMemory", "SharedRing", "XenStore", "XenTypes"]
        ),
        program(
            "hostile-netfront", at: "Tests/Support/HostileNetfront",
            [
                "Hypervisor", "Libxen", "LinuxSystem", "NetworkProtocol", "SharedMemory", "SharedRing", "XenBus", "XenStore",
                "XenTypes",
            ]
        ),
        // The README's examples, which are tests, too.
        program(
            "block-in-memory", at: "Examples/BlockInMemory",
            ["BlockBackend", "BlockDevices", "BlockFrontend", "DriverRuntime", "InProcess", "LinuxSystem", "Toolstack", "XenTypes"]
        ),
        program(
            "frames-in-memory", at: "Examples/FramesInMemory",
            ["DriverRuntime", "InProcess", "NetworkBackend", "NetworkDevices", "NetworkFrontend", "Toolstack", "XenTypes"]
        ),
        program(
            "first-translation", at: "Examples/FirstTranslation", ["DMA", "FrameMaps", "SharedMemory"]),
        program(
            "bus-in-memory", at: "Examples/BusInMemory",
            ["BlockDevices", "BusDisk", "DeviceBus", "LinuxSystem", "PageDevices", "Reactor", "VirtioBlock", "VirtioBus"]
        ),

        host.tests("LinuxSystem", ["LinuxSystem", "TestSupport"]),
        host.tests("SharedMemory", ["LinuxSystem", "SharedMemory", "TestSupport"]),
        host.tests("Confinement", ["Confinement", "TestSupport", "confined-probe"]),
        host.tests("Reactor", ["CUring", "LinuxSystem", "Reactor", "SharedMemory", "TestSupport"]),
        translation.tests("FrameMaps", ["FrameMaps", "TestSupport"]),
        translation.tests(
            "DMA",
            ["BlockDevices", "DMA", "FrameMaps", "LinuxSystem", "Reactor", "SharedMemory", "TestSupport", "first-translation"]),
        translation.tests("HostIommu", ["CLinux", "DMA", "FrameMaps", "HostIommu", "LinuxSystem", "SharedMemory", "TestSupport"]),
        translation.tests("FrameMapReaders", ["DumpWriter", "FrameMapReaders", "FrameMaps", "LinuxSystem", "TestSupport"]),
        xen.tests("XenStore", ["CXen", "TestSupport", "XenStore"]),
        xen.tests("XenStoreServer", ["LinuxSystem", "TestSupport", "XenStore", "XenStoreServer", "XenTypes"]),
        xen.tests("XenBus", ["XenBus", "XenTypes"]),
        xen.tests("SharedRing", ["BlockProtocol", "CRingMacros", "SharedMemory", "SharedRing", "TestSupport", "XenTypes"]),
        xen.tests("Toolstack", ["LinuxSystem", "TestSupport", "Toolstack", "XenStore", "XenStoreServer", "XenTypes"]),
        hypervisors.tests("HypervisorRules", ["CXen", "Hypervisor", "HypervisorRules", "SharedMemory", "TestSupport", "XenTypes"]),
        hypervisors.tests(
            "InProcess",
            ["Hypervisor", "HypervisorRules", "InProcess", "LinuxSystem", "SharedMemory", "TestSupport", "XenStore", "XenTypes"]
        ),
        hypervisors.tests(
            "Loopback",
            [
                "Hypervisor", "HypervisorRules", "LinuxSystem", "Loopback", "SharedMemory", "TestSupport", "XenStore",
                "XenTypes", "loopback-probe",
            ], resources: [.copy("evil.py")]
        ),
        hypervisors.tests("Libxen", ["CXen", "Hypervisor", "Libxen", "LinuxSystem", "SharedMemory", "TestSupport", "XenTypes"]),
        hypervisors.tests(
            "Interrupts",
            ["CLinux", "Hypervisor", "InProcess", "Interrupts", "LinuxSystem", "TestSupport", "XenTypes"]
        ),
        devices.tests("BlockDevices", ["BlockDevices", "DMA", "LinuxSystem", "Reactor", "SharedMemory", "TestSupport"]),
        devices.tests(
            "NVMe",
            ["BlockDevices", "DMA", "LinuxSystem", "NVMe", "NVMeModel", "Reactor", "SharedMemory", "TestSupport"]),
        devices.tests(
            "RBD", ["BlockDevices", "CFakeRBD", "DMA", "LinuxSystem", "RBD", "Reactor", "SharedMemory", "TestSupport"]),
        devices.tests("DeviceBus", ["DeviceBus", "LinuxSystem", "SharedMemory", "TestSupport"]),
        devices.tests("PageDevices", ["DeviceBus", "LinuxSystem", "PageDevices", "SharedMemory", "TestSupport"]),
        devices.tests("DeviceState", ["DeviceState"]),
        devices.tests("DeviceFaults", ["DeviceFaults"]),
        devices.tests("DeviceControl", ["DeviceControl", "DeviceFaults", "DeviceState", "TestSupport"]),
        devices.tests("NetworkDevices", ["DMA", "LinuxSystem", "NetworkDevices", "Packets", "SharedMemory"]),
        virtio.tests(
            "VhostUser",
            [
                "DeviceControl", "DeviceState", "LinuxSystem", "SharedMemory", "TestSupport", "VhostUser", "VirtioRing",
                "VirtioWire",
            ]
        ),
        runtime.tests(
            "Connector", ["BlockDevices", "Connectors", "LinuxSystem", "NetworkDevices", "PageDevices", "TestSupport"]),
        runtime.tests(
            "XenDeviceBus",
            [
                "DeviceBus", "Hypervisor", "HypervisorRules", "InProcess", "LinuxSystem", "Loopback", "PageDevices",
                "SharedMemory", "TestSupport", "XenBus", "XenDeviceBus", "XenStore", "XenTypes",
            ]),
        virtio.tests(
            "VirtioBus",
            [
                "BlockDevices", "BusDisk", "BusInterface", "Connectors", "DeviceBus", "LinuxSystem", "NetworkDevices",
                "PageDevices", "Reactor", "ScriptedDevices", "SharedMemory", "TestSupport", "VirtioBlock", "VirtioBus",
                "VirtioNetwork", "VirtioWire", "bus-in-memory",
            ]),
        block.tests(
            "VirtioBlock",
            [
                "BlockDevices", "Connectors", "LinuxSystem", "Reactor", "ScriptedDevices", "SharedMemory", "TestSupport",
                "VhostUser", "VirtioBlock", "VirtioRing", "VirtioWire",
            ]),
        exports.tests(
            "NBDServer",
            [
                "BlockBackend", "BlockDevices", "BlockFrontend", "DriverRuntime", "HypervisorRules", "InProcess", "LinuxSystem",
                "NBDServer", "Reactor", "ScriptedDevices", "TestSupport", "Toolstack", "XenTypes",
            ]),
        block.tests("BlockTrace", ["BlockProtocol", "BlockTrace", "DeviceTrace", "SharedMemory", "TestSupport", "XenTypes"]),
        block.tests("BlockModel", ["BlockDevices", "BlockModel", "DMA", "DeviceControl", "LinuxSystem", "TestSupport"]),
        block.tests(
            "BlockProtocol",
            ["BlockProtocol", "CXen", "InProcess", "SharedMemory", "TestSupport", "XenBus", "XenStore", "XenTypes"]
        ),
        block.tests(
            "BlockBackend",
            [
                "BlockBackend", "BlockDevices", "BlockFrontend", "BlockModel", "BlockProtocol", "DMA", "DeviceControl",
                "DeviceFaults", "DriverRuntime", "FrameMaps", "Hypervisor", "HypervisorRules", "InProcess", "LinuxSystem",
                "MockPeers", "Reactor", "ScriptedDevices", "SharedMemory", "SharedRing", "TestHosts", "TestSupport",
                "Toolstack", "XenStore", "XenTypes", "block-in-memory",
            ]
        ),
        network.tests("NetworkProtocol", ["LinuxSystem", "NetworkProtocol", "Packets", "SharedMemory", "TestSupport", "XenTypes"]),
        network.tests(
            "NetworkTrace",
            ["DeviceTrace", "LinuxSystem", "NetworkProtocol", "NetworkTrace", "Packets", "SharedMemory", "TestSupport", "XenTypes"]
        ),
        network.tests(
            "NetworkBackend",
            [
                "CLinux", "DMA", "DeviceControl", "DeviceFaults", "DeviceTrace", "DriverRuntime", "FrameMaps", "Hypervisor",
                "HypervisorRules", "LinuxSystem", "MockPeers", "NetworkBackend", "NetworkDevices", "NetworkFrontend",
                "NetworkProtocol", "NetworkTrace", "Packets", "Reactor", "SharedMemory", "SharedRing", "TestHosts",
                "TestSupport", "Toolstack", "XenBus", "XenStore", "XenTypes", "frames-in-memory",
            ]
        ),
        network.tests(
            "VifTaps",
            [
                "DMA", "DriverRuntime", "LinuxSystem", "NetworkBackend", "NetworkDevices", "Packets", "SharedMemory",
                "TestSupport", "VifTaps", "XenBus", "XenTypes",
            ]
        ),
        network.tests(
            "VirtioNetwork",
            [
                "Connectors", "DMA", "LinuxSystem", "NetworkDevices", "Packets", "Reactor", "SharedMemory", "TestSupport",
                "VhostUser", "VirtioNetwork", "VirtioRing", "VirtioWire",
            ]
        ),
        virtio.tests("VirtioInterrupts", ["LinuxSystem", "Reactor", "TestSupport", "VirtioInterrupts"]),
        virtio.tests("VirtioWire", ["CVirtio", "SharedMemory", "VirtioWire"]),
        virtio.tests(
            "VirtioGrants",
            [
                "BlockDevices", "Hypervisor", "HypervisorRules", "InProcess", "LinuxSystem", "Loopback", "Reactor",
                "ScriptedDevices", "SharedMemory", "TestSupport", "VhostUser", "VirtioBlock", "VirtioGrants", "VirtioRing",
                "VirtioWire", "XenTypes",
            ]),
        virtio.tests("VirtioRing", ["CVirtio", "SharedMemory", "TestSupport", "VirtioModel", "VirtioRing", "VirtioWire"]),
        command.tests("CommandSupport", ["CommandSupport", "LinuxSystem", "Loopback", "TestSupport"]),
        command.tests("SimulatedWorlds", ["LinuxSystem", "SimulatedWorlds", "Simulation", "TestSupport"]),
        command.tests("Command", ["DumpWriter", "TestSupport"]),
    ]
)
