// swift-tools-version: 6.2
// Causeway: a Xen-style split-driver system in user space. The folder names under Sources/ are the rooms that
// Docs/architecture.md draws; arrows point down only.

import PackageDescription

/// Every Swift target: Swift 6 mode, and strict memory safety as an error, so that each unsafe operation is spelt out.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatWarning("StrictMemorySafety", as: .error),
    .enableExperimentalFeature("Lifetimes"),
]

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.target(name: name), "TestSupport"] + dependencies, resources: resources,
        swiftSettings: [.swiftLanguageMode(.v6)])
}

let package = Package(
    name: "causeway",
    products: [
        .executable(name: "causeway", targets: ["causeway"]),
        .library(name: "CausewayNBD", type: .dynamic, targets: ["NBDKitPlugin"]),
        .library(name: "BlockBackend", targets: ["BlockBackend"]),
        .library(name: "BlockFrontend", targets: ["BlockFrontend"]),
        .library(name: "NetworkBackend", targets: ["NetworkBackend", "HostDevices", "Packets"]),
        .library(name: "NetworkFrontend", targets: ["NetworkFrontend", "HostDevices", "Packets"]),
        .library(name: "HostDevices", targets: ["HostDevices", "Reactor", "DMA", "SharedMemory", "LinuxSystem"]),
        .library(name: "XenTranslation", targets: ["FrameMaps", "FrameMapReaders", "DMA", "HostIommu", "SharedMemory"]),
        // For tools that are not Swift: libcauseway-translation.so, with causeway_translation.h.
        .library(name: "causeway-translation", type: .dynamic, targets: ["XenTranslationC"]),
        .library(name: "Interrupts", targets: ["Interrupts"]),
        .library(name: "XenStore", targets: ["XenStore"]),
        .library(name: "LoopbackHypervisor", targets: ["LoopbackHypervisor"]),
        .library(name: "InProcessHypervisor", targets: ["InProcessHypervisor"]),
        .library(name: "Toolstack", targets: ["Toolstack"]),
        .library(name: "SharedRing", targets: ["SharedRing", "XenWire", "SharedMemory"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // C: headers, system calls and libraries.
        .systemLibrary(name: "CXen", path: "Sources/CXen"),
        .systemLibrary(name: "CUring", path: "Sources/CUring", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .systemLibrary(name: "CNBD", path: "Sources/CNBD", pkgConfig: "libnbd", providers: [.apt(["libnbd-dev"])]),
        .systemLibrary(name: "CNBDKit", path: "Sources/CNBDKit", pkgConfig: "nbdkit", providers: [.apt(["nbdkit-plugin-dev"])]),
        .systemLibrary(name: "CCausewayTranslation", path: "Sources/CCausewayTranslation"),
        .target(name: "CLinux"),
        .target(
            name: "CXenControl",
            linkerSettings: ["xencall", "xenforeignmemory", "xentoollog"].map { .linkedLibrary($0) }),

        // From the bottom up.
        room("LinuxSystem", ["CLinux"]),
        room("SharedMemory", ["LinuxSystem", "CLinux"]),
        room("Reactor", ["CUring", "LinuxSystem", "CLinux"]),
        room("FrameMaps", ["CLinux"]),
        room("DMA", ["FrameMaps", "SharedMemory"]),
        room("HostIommu", ["DMA", "FrameMaps", "SharedMemory", "LinuxSystem", "CLinux"]),
        room("FrameMapReaders", ["FrameMaps", "LinuxSystem"]),
        room("XenTranslationC", ["FrameMaps", "FrameMapReaders", "DMA", "SharedMemory", "CCausewayTranslation"]),
        room("LiveDomains", ["FrameMapReaders", "FrameMaps", "LinuxSystem", "CXenControl"]),
        room("XenWire", ["SharedMemory"]),
        room("XenStore", ["XenWire", "LinuxSystem", "CLinux"]),
        room("HypervisorCore", ["XenWire"]),
        room("Hypervisor", ["XenWire", "XenStore", "SharedMemory", "LinuxSystem"]),
        room("Interrupts", ["Hypervisor", "LinuxSystem"]),
        room("InProcessHypervisor", ["Hypervisor", "HypervisorCore", "XenStore", "LinuxSystem"]),
        room("LoopbackHypervisor", ["Hypervisor", "HypervisorCore", "XenStore", "LinuxSystem", "CLinux"]),
        room("LibxenHypervisor", ["Hypervisor", "XenStore", "LinuxSystem", "CXen"]),
        room("SharedRing", ["SharedMemory", "XenWire"]),
        room("Packets", ["DMA", "SharedMemory", "XenWire"]),
        room("FrameTrace", ["SharedMemory", "Packets", "XenWire", "LinuxSystem", "CLinux"]),
        room("XenBus", ["XenStore", "XenWire", "Hypervisor"]),
        room("HostDevices", ["DMA", "Reactor", "Packets", "SharedMemory", "CNBD", "LinuxSystem", "CLinux"]),
        room(
            "BlockBackend", ["DriverSupport", "Hypervisor", "XenBus", "SharedRing", "FrameMaps", "DMA", "HostDevices", "Reactor"]),
        room("BlockFrontend", ["Hypervisor", "XenBus", "SharedRing"]),
        room("DriverSupport", ["Hypervisor", "Reactor", "XenBus", "Packets", "DMA", "SharedMemory", "LinuxSystem"]),
        room(
            "NetworkBackend",
            [
                "DriverSupport", "FrameTrace", "Hypervisor", "XenBus", "SharedRing", "Packets", "FrameMaps", "DMA", "HostDevices",
                "Reactor",
            ]),
        room(
            "NetworkFrontend", ["DriverSupport", "Hypervisor", "XenBus", "SharedRing", "Packets", "DMA", "HostDevices", "Reactor"]),
        room("Toolstack", ["XenStore", "XenWire", "XenBus"]),
        room("NBDKitPlugin", ["BlockFrontend", "LoopbackHypervisor", "LibxenHypervisor", "CNBDKit"]),
        .executableTarget(
            name: "causeway",
            dependencies: [
                "Toolstack", "BlockBackend", "BlockFrontend", "NetworkBackend", "NetworkFrontend", "FrameTrace",
                "LoopbackHypervisor", "LibxenHypervisor", "DMA", "HostIommu", "Packets", "FrameMaps", "FrameMapReaders",
                "LiveDomains",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),

        .target(
            name: "TestSupport", dependencies: ["DMA", "FrameMaps"], path: "Tests/TestSupport",
            swiftSettings: [.swiftLanguageMode(.v6)]),

        tests("FrameMaps"),
        .target(name: "DumpWriter", path: "Tests/DumpWriter", swiftSettings: [.swiftLanguageMode(.v6)]),
        tests("FrameMapReaders", ["FrameMaps", "LinuxSystem", "DumpWriter"]),
        tests("DMA", ["FrameMaps", "SharedMemory", "LinuxSystem"]),
        tests("HostIommu", ["DMA", "FrameMaps", "SharedMemory", "LinuxSystem", "CLinux"]),
        tests("Interrupts", ["InProcessHypervisor", "LinuxSystem", "CLinux"]),
        tests("SharedMemory"),
        tests("XenWire", ["CXen", "XenStore", "HypervisorCore"]),
        tests("XenStore", ["LinuxSystem"]),
        tests("HypervisorCore", ["InProcessHypervisor", "CXen"]),
        tests("LibxenHypervisor", ["Hypervisor", "SharedMemory", "XenWire"]),
        tests("LoopbackHypervisor", ["HypervisorCore", "loopback-probe"], resources: [.copy("evil.py")]),
        // A domain's process for the tests that kill, stop and attack one.
        .executableTarget(
            name: "loopback-probe", dependencies: ["LoopbackHypervisor"], path: "Tests/LoopbackProbe", swiftSettings: strict),
        // Guests' processes for the lab, that lie to their backends on a real Xen (tools/lab).
        .executableTarget(
            name: "hostile-frontend", dependencies: ["LibxenHypervisor", "SharedRing", "XenBus"], path: "Tests/HostileFrontend",
            swiftSettings: strict),
        .executableTarget(
            name: "hostile-netfront", dependencies: ["LibxenHypervisor", "SharedRing", "XenBus"], path: "Tests/HostileNetfront",
            swiftSettings: strict),
        .target(name: "CRingMacros", path: "Tests/CRingMacros"),
        tests("SharedRing", ["CRingMacros"]),
        tests("Reactor"),
        tests("HostDevices"),
        tests("FrameTrace"),
        tests("XenBus", ["InProcessHypervisor"]),
        tests("BlockBackend", ["BlockFrontend", "DriverSupport", "InProcessHypervisor", "Toolstack", "DMA"]),
        tests("NetworkBackend", ["NetworkFrontend", "DriverSupport", "InProcessHypervisor", "Toolstack", "frames-in-memory"]),
        .executableTarget(
            name: "frames-in-memory",
            dependencies: [
                "DriverSupport", "NetworkBackend", "NetworkFrontend", "InProcessHypervisor", "HostDevices", "Packets", "Toolstack",
                "XenWire",
            ],
            path: "Examples/FramesInMemory", swiftSettings: [.swiftLanguageMode(.v6)]),
        tests("Toolstack"),
        .testTarget(
            name: "CommandTests", dependencies: ["LinuxSystem", "DumpWriter", "TestSupport"],
            swiftSettings: [.swiftLanguageMode(.v6)]),
    ]
)
