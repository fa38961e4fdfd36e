// What both directions of one queue stand on.

import Hypervisor
import LinuxSystem
import NetworkDevices
import XenTypes

/// One queue's surroundings. On its reactor's thread.
struct QueueContext {
    /// Which of the interface's queues it is.
    let index: Int
    /// Its reactor's clock.
    let time: any TimeSource
    let interface: InterfaceState
    let hypervisor: any Hypervisor
    let frontend: DomainID
    let mappings: GrantMappings
    let memory: QueueMemory
    let device: any NetworkDeviceQueue
    /// What is taken is written down there; nil: nowhere.
    var journal: InterfaceJournal?
}
