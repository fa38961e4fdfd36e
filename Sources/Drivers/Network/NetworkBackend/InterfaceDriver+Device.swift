// What one vif's device and its frontend have to know of each other: how many queues, how large frames, and whether
// there is another end.

import LinuxSystem
import NetworkDevices
import NetworkProtocol
import XenBus
import XenStore

extension InterfaceDriver {
    /// What is offered: no more queues than the device has.
    var offer: NetworkOffer {
        var offer = options.offer
        offer.queues = min(offer.queues, UInt32(clamping: device?.mostQueues ?? .max))
        return offer
    }

    /// Says so where the device has fewer queues than frontends might have.
    func noteQueues() {
        guard let device, device.mostQueues < Int(options.queues), !hasNotedQueues else { return }
        hasNotedQueues = true
        log(
            "vif \(path.device): \(device.name) was made for \(device.mostQueues) queue: no more are offered (`ip tuntap add \(device.name) mode tap multi_queue` makes one for several)"
        )
    }

    /// Sees to it that the device shows no MTU whose frames the frontend cannot take.
    func limitMTU(of device: any NetworkDevice, _ features: NetworkFeatures) {
        do throws(Errno) {
            guard let change = try device.limitMTU(to: features.mostMTU) else { return }
            note("vif \(path.device): \(device.name): \(change): the frontend takes no larger frames")
        } catch { log("vif \(path.device): \(device.name): its mtu cannot be limited to \(features.mostMTU): \(error)") }
    }

    /// Shows whoever uses the device that its frontend went, or is back. One that has nothing to show it by does
    /// without.
    func showCarrier(_ isUp: Bool) {
        if isUp != isCarrierHidden { return }
        isCarrierHidden = !isUp
        try? device?.setCarrier(isUp)
    }

    /// Tells the frontend of the MTU that the interface has from its bridge, as Xen's vif-bridge does where the
    /// toolstack says nothing.
    func writeMTU(_ store: StoreClient) throws(XenbusError) {
        guard let settings, settings.wantedMTU == nil, settings.bridge != nil, let mtu = device?.mtu,
            mtu != NetworkSettings.usualMTU, let frontend = try store.text(path.path + "/frontend")
        else { return }
        // A directory that is not to be written to is a guest's of another host's manners: it does without.
        guard try store.text(frontend + "/state") != nil, try store.text(frontend + "/mtu") == nil else { return }
        try? store.put(frontend + "/mtu", mtu)
    }

    /// Tells the frontend whether its wire has another end. Absent means that it has (protocol-rules.md 44).
    func writeCarrier(_ store: StoreClient) throws(XenbusError) {
        let directory = path.path
        let isUp = device?.carrier
        try store.atomically { access throws(XenbusError) in
            guard try access.text(directory + "/state") != nil else { return }
            if let isUp {
                try access.put(directory + "/carrier", isUp ? 1 : 0)
            } else if try access.text(directory + "/carrier") != nil {
                // An earlier device's, which was deleted.
                try access.put(directory + "/carrier", 1)
            }
        }
    }
}
