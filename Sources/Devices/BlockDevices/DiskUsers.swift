// The one question before a disk is opened: does anybody else have these bytes? By whatever way: mounted, swap space,
// part of a volume, locked, or written, through a partition, the whole disk, a loop device or the file below one.
//
// xl's block script asks as much of mounts and loop devices. Control plane: reads /proc and /sys, and opens nodes.

import Glibc
import LinuxSystem

struct DiskUsers {
    private let topology: BlockTopology
    private let table: MountTable
    private let writes: Bool
    private let search: ProcessSearch
    /// What has been asked about, so that no ring of devices keeps us.
    private var devices: Set<DeviceHalves> = []
    private var files: Set<FileIdentity> = []

    /// - Parameter writes: whether the disk is to be written; else only who writes it counts.
    init(
        writes: Bool, _ search: ProcessSearch = .all, topology: BlockTopology = BlockTopology(), table: MountTable = MountTable()
    ) {
        self.writes = writes
        self.search = search
        self.topology = topology
        self.table = table
    }

    /// Who else has bytes of the open disk, apart from locks on it, which `ImageClaim` sees; nil: nobody.
    mutating func holder(of disk: Descriptor, _ name: String) -> DiskHolder? {
        guard let status = try? disk.status() else { return nil }
        if let device = DeviceHalves(blockDevice: status) { return holder(of: device, name) }
        let file = FileIdentity(status)
        files.insert(file)
        if writes, let writer = writer(of: file) { return DiskHolder(thing: name, use: .written(by: writer)) }
        return holder(upon: file, name)
    }

    /// Who else has bytes of a block device: what it is, what stands on it, and what it stands on.
    mutating func holder(of device: DeviceHalves, _ name: String) -> DiskHolder? {
        devices.insert(device)
        return use(of: device, name) ?? holder(upon: device) ?? holder(below: device)
    }

    /// Who has `disk` locked, or open: for a disk that could not be had.
    func process(on disk: DiskPlace) -> ClaimHolder? {
        guard search.contains(.names) else { return nil }
        let others = OpenFile.all(of: disk.file, device: disk.device).filter { !$0.isOwn(disk.own) }
        let found = others.first { $0.isLocked } ?? others.first { $0.isWritable }
        return found.map { ClaimHolder(process: $0.process) }
    }

    // MARK: What stands on something

    /// Partitions, volumes, arrays and loop devices.
    private mutating func holder(upon device: DeviceHalves) -> DiskHolder? {
        for part in topology.partitions(of: device) { if let holder = visit(part) { return holder } }
        for volume in topology.holders(of: device) {
            if let holder = visit(volume) { return holder }
            if writes { return DiskHolder(thing: topology.node(of: device), use: .part(of: topology.title(of: volume))) }
        }
        for loop in topology.loops where stands(loop, on: device) { if let holder = visit(loop: loop) { return holder } }
        return nil
    }

    private mutating func holder(upon file: FileIdentity, _ name: String) -> DiskHolder? {
        if table.swaps.contains(where: { (try? FileSystem.status(of: $0)).map(FileIdentity.init) == file }) {
            return DiskHolder(thing: name, use: .swap)
        }
        for loop in topology.loops where stands(loop, on: file) { if let holder = visit(loop: loop) { return holder } }
        return nil
    }

    private mutating func visit(_ device: DeviceHalves) -> DiskHolder? {
        guard devices.insert(device).inserted else { return nil }
        let node = topology.node(of: device)
        return use(of: device, node) ?? holder(upon: device) ?? lock(on: node)
    }

    /// A loop device is nobody's that we have claimed, so the kernel's own word can be asked for: it knows of mounts in
    /// other namespaces, too, and of users that are unknown here.
    private mutating func visit(loop: DeviceHalves) -> DiskHolder? {
        guard !devices.contains(loop) else { return nil }
        if let holder = visit(loop) { return holder }
        guard writes else { return nil }
        let node = topology.node(of: loop)
        do throws(Errno) { _ = try Descriptor.openForQuestions(node, exclusively: true) } catch {
            return error == .busy ? DiskHolder(thing: node, use: .exclusive) : nil
        }
        return nil
    }

    // MARK: What something stands on

    private mutating func holder(below device: DeviceHalves) -> DiskHolder? {
        if let disk = topology.wholeDisk(of: device), devices.insert(disk).inserted {
            let node = topology.node(of: disk)
            if let holder = use(of: disk, node) ?? lock(on: node) ?? holder(below: disk) { return holder }
            if writes, let volume = topology.holders(of: disk).first {
                return DiskHolder(thing: node, use: .part(of: topology.title(of: volume)))
            }
        }
        for slave in topology.slaves(of: device) where devices.insert(slave).inserted {
            if let holder = lock(on: topology.node(of: slave)) ?? holder(below: slave) { return holder }
        }
        guard let path = topology.loopFile(of: device), let status = try? FileSystem.status(of: path) else { return nil }
        if let node = DeviceHalves(blockDevice: status) {
            guard devices.insert(node).inserted else { return nil }
            return use(of: node, path) ?? holder(upon: node) ?? lock(on: path) ?? holder(below: node)
        }
        let file = FileIdentity(status)
        guard files.insert(file).inserted else { return nil }
        if let holder = lock(on: path) { return holder }
        if writes, let writer = writer(of: file) { return DiskHolder(thing: path, use: .written(by: writer)) }
        return holder(upon: file, path)
    }

    // MARK: One thing

    private func use(of device: DeviceHalves, _ name: String) -> DiskHolder? {
        if let mount = mount(of: device) { return DiskHolder(thing: name, use: .mounted(at: mount.place)) }
        if table.swaps.contains(where: { (try? FileSystem.status(of: $0)).flatMap { DeviceHalves(blockDevice: $0) } == device }) {
            return DiskHolder(thing: name, use: .swap)
        }
        return writes ? topology.btrfs(of: device).map { DiskHolder(thing: name, use: .btrfs(identifier: $0.identifier)) } : nil
    }

    /// The mount that has a device: by number, by the node that it names, or by another device of the same file system.
    private func mount(of device: DeviceHalves) -> Mount? {
        let devices = topology.btrfs(of: device)?.devices ?? [device]
        return table.mounts.first { mount in
            guard mount.isWritable || writes else { return false }
            if mount.device == device { return true }
            guard mount.device.major == 0, mount.source.hasPrefix("/"), let status = try? FileSystem.status(of: mount.source),
                let source = DeviceHalves(blockDevice: status)
            else { return false }
            return devices.contains(source)
        }
    }

    private func lock(on path: String) -> DiskHolder? {
        guard let open = try? Descriptor.openForQuestions(path), isLocked(open) else { return nil }
        return DiskHolder(thing: path, use: .locked(by: process(on: DiskPlace(open))))
    }

    /// By its bytes or as a whole.
    private func isLocked(_ open: Descriptor) -> Bool {
        if ImageClaim.isLocked(open, writes: writes) { return true }
        // One that shares its lock does not write. Ours is gone with the descriptor.
        do throws(Errno) { try open.lock(shared: true) } catch { return error == .wouldBlock }
        return false
    }

    /// A process, not this one, that has a file open for writing. Of a block device that would say nothing: what serves
    /// a network disk has its node open.
    private func writer(of file: FileIdentity) -> ClaimHolder? {
        guard search.contains(.writers) else { return nil }
        return OpenFile.all(of: file).first { $0.isWritable && !$0.isOwn }.map { ClaimHolder(process: $0.process) }
    }

    private func stands(_ loop: DeviceHalves, on file: FileIdentity) -> Bool {
        backing(of: loop, { $0.file == file }, { DeviceHalves(blockDevice: $0) == nil && FileIdentity($0) == file })
    }

    private func stands(_ loop: DeviceHalves, on device: DeviceHalves) -> Bool {
        backing(of: loop, { $0.device == device }, { DeviceHalves(blockDevice: $0) == device })
    }

    /// Asks the loop device, which knows its file whatever has become of the path; where it may not be asked, the path.
    private func backing(
        of loop: DeviceHalves, _ matches: ((file: FileIdentity, device: DeviceHalves?)) -> Bool, _ matchesPath: (stat) -> Bool
    ) -> Bool {
        if let open = try? Descriptor.openForQuestions(topology.node(of: loop)), let backing = open.loopBacking {
            return matches(backing)
        }
        guard let path = topology.loopFile(of: loop), let status = try? FileSystem.status(of: path) else { return false }
        return matchesPath(status)
    }
}

/// A disk as it can be found among the open files of other processes.
struct DiskPlace {
    let file: FileIdentity
    /// Nil: a file.
    let device: DeviceHalves?
    /// Our own descriptor of it.
    let own: Int32

    /// One that is open here.
    init(_ open: Descriptor) { self.init((try? open.status()) ?? stat(), own: open.rawValue) }

    /// One that is not.
    init(_ status: stat) { self.init(status, own: -1) }

    private init(_ status: stat, own: Int32) {
        (file, device, self.own) = (FileIdentity(status), DeviceHalves(blockDevice: status), own)
    }
}
