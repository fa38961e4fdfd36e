// IO addresses in a session: what a front end says of them, and the rings that lie in them. A ring starts when all of
// its pages are known; when one is taken back it is stopped, and started again where it was when that page has come
// anew. So a ring never has to ask whether it still is where it was.

import LinuxSystem
import SharedMemory
import VirtioRing
import VirtioWire

extension VhostSession {
    /// Whether the driver's addresses go through an IOMMU.
    var isTranslated: Bool { features.contains(.accessPlatform) }

    /// Whoever has an IOMMU needs a way to be asked, and answers that come in their turn.
    func checkTranslated(_ accepted: VirtioFeatures) throws(VhostUserError) {
        let needed: VhostProtocolFeatures = [.backendRequests, .replyAck]
        guard !accepted.contains(.accessPlatform) || protocolFeatures.isSuperset(of: needed) else { throw .lacking(needed) }
    }

    /// Between one driver's use of the device and the next one's nobody says what is not true any more.
    mutating func forgetTranslations() { if running.isEmpty { translations.removeAll() } }

    /// What has to be done for a word about IO addresses.
    mutating func translate(_ word: VhostTranslation, _ request: VhostRequest) throws(VhostUserError) -> VhostTask? {
        guard offer.features.contains(.accessPlatform) else { throw .unknownRequest(request.rawValue) }
        // A front end goes on taking back what it gave to a device that was reset since.
        switch word.kind {
        case .update: return isTranslated ? try add(word) : nil
        case .invalidate: return isTranslated ? takeBack(word) : nil
        case .miss, .fail: throw .notATranslation(word.kind.rawValue)
        }
    }

    private mutating func add(_ word: VhostTranslation) throws(VhostUserError) -> VhostTask {
        var changed = translations
        do throws(TranslationError) {
            guard word.byteCount > 0 else { throw .empty(word.address) }
            guard !word.address.addingReportingOverflow(word.byteCount - 1).overflow else {
                throw .wraps(word.address, byteCount: word.byteCount)
            }
        } catch { throw .badTranslation(error) }
        // As many pieces at most as there are regions.
        for (done, target, count) in try guestPieces(word) {
            do throws(TranslationError) {
                try changed.insert(word.address + done, byteCount: count, target: target, AccessRights(rawValue: word.permissions))
            } catch { throw .badTranslation(error) }
        }
        translations = changed
        askedPages = askedPages.filter { changed.entry(at: $0) == nil }
        for index in rings.indices where !rings[index].isRunning && rings[index].isComplete {
            do throws(VhostUserError) { if let task = try start(index) { following.append(task) } } catch {
                // The range is right; what is wrong is the ring, which is not tried again.
                rings[index].stop()
                rings[index].error?.tell()
                following.append(.broken(ring: index, "\(error)"))
            }
        }
        return .translations(changed, takenBack: nil)
    }

    /// What of the guest's memory a range is: how far from its beginning, where, and how many bytes.
    private func guestPieces(_ word: VhostTranslation) throws(VhostUserError) -> [(UInt64, target: UInt64, byteCount: UInt64)] {
        var pieces: [(UInt64, target: UInt64, byteCount: UInt64)] = []
        var done: UInt64 = 0
        while done < word.byteCount {
            let (user, isBeyond) = word.userAddress.addingReportingOverflow(done)
            let region = memory.entries.map(\.region).first {
                $0.userAddress <= user && user - $0.userAddress < $0.byteCount
            }
            guard !isBeyond, let region else {
                throw .translationOutside(user: word.userAddress, byteCount: word.byteCount)
            }
            let distance = user - region.userAddress
            let count = min(word.byteCount - done, region.byteCount - distance)
            pieces.append((done, region.guestAddress + distance, count))
            done += count
        }
        return pieces
    }

    private mutating func takeBack(_ word: VhostTranslation) -> VhostTask {
        // All addresses are one more than a number of bytes can say, and QEMU then says none.
        let (end, isBeyond) = word.address.addingReportingOverflow(word.byteCount &- 1)
        let last = word.byteCount == 0 || isBeyond ? UInt64.max : end
        let range = word.address...last
        translations.remove(range)
        let touched = running.filter { index in
            ((try? extents(of: index)) ?? []).contains { extent in
                extent.run.address <= last && extent.run.address + UInt64(extent.run.byteCount) > word.address
            }
        }
        return pause(touched, then: .translations(translations, takenBack: range))
    }

    /// Other memory, and nothing is known of what the IO addresses are in it.
    mutating func changeTranslated(_ changed: VhostMemory) -> VhostTask {
        memory = changed
        translations.removeAll()
        let paused = running
        following = []
        let task = pause(paused, then: .memory(changed, stopping: []))
        following.append(.translations(translations, takenBack: 0...UInt64.max))
        return task
    }
}

// MARK: Rings

extension VhostSession {
    private func extents(of ring: Int) throws(VirtqueueError) -> [(run: GuestRun, rights: AccessRights)] {
        guard rings[ring].isComplete, let addresses = rings[ring].addresses else { return [] }
        return try VirtqueueAreas.extents(
            size: Int(rings[ring].size), descriptors: addresses.descriptors, driver: addresses.available,
            device: addresses.used, features: features)
    }

    /// Pages of a ring that nothing is known of.
    private func missing(of ring: Int) throws(VirtqueueError) -> [(page: UInt64, rights: AccessRights)] {
        var missing: [(page: UInt64, rights: AccessRights)] = []
        for (run, rights) in try extents(of: ring) {
            let last = run.address + UInt64(run.byteCount - 1)
            var address = run.address
            while true {
                let next: UInt64
                if let entry = translations.entry(at: address) {
                    next = entry.last
                } else {
                    missing.append((address & ~(TranslatedMemory.pageBytes - 1), rights))
                    next = address | (TranslatedMemory.pageBytes - 1)
                }
                guard next < last else { break }
                address = next + 1
            }
        }
        return missing
    }

    /// What is needed to serve a ring; nil: something is missing, or not known yet.
    mutating func placed(_ index: Int, _ inflight: RingArea?, _ own: RingArea?) throws(VirtqueueError) -> VhostRingPlan? {
        guard rings[index].isComplete, let addresses = rings[index].addresses, try missing(of: index).isEmpty else { return nil }
        let pages = RingPages(memory: memory, translations: translations)
        let extents = try extents(of: index)
        rings[index].place = nil
        if extents.allSatisfy({ pages.guestAddress($0.run) != nil }), let device = pages.guestAddress(extents[2].run),
            let descriptors = pages.guestAddress(extents[0].run)
        {
            rings[index].place = (device, descriptors)
        }
        for (run, rights) in extents where !pages.permits(run, rights) {
            throw .unreachable(address: run.address, byteCount: Int(run.byteCount))
        }
        // What a log marks is in one piece.
        if addresses.log != nil, rings[index].place == nil {
            throw .unreachable(address: addresses.used, byteCount: Int(extents[2].run.byteCount))
        }
        return try rings[index].plan(
            in: pages, features, protocolFeatures, inflight: inflight, own: own, recovers: isRecovering,
            logging: logging(of: index),
            translations: translations)
    }

    /// Where a ring notes what it writes into itself: at the address that it was found at, which is what the front
    /// end's own IO address for it means.
    func translatedLog(of ring: Int, _ log: DirtyLog) -> RingLog? {
        guard rings[ring].addresses?.log != nil, let place = rings[ring].place else { return nil }
        return RingLog(log, device: place.device, descriptors: place.descriptors)
    }

    /// Asks for what rings wait for, each page once.
    mutating func askForRings() {
        guard isTranslated, let backendSocket else { return }
        let channel = VhostBackendChannel(backendSocket)
        for index in rings.indices where !rings[index].isRunning && rings[index].isComplete {
            for (page, rights) in (try? missing(of: index)) ?? [] where !askedPages.contains(page) {
                let word = VhostTranslation(
                    address: page, byteCount: TranslatedMemory.pageBytes, permissions: rights.rawValue, kind: .miss)
                guard channel.say(word) else { return }
                askedPages.insert(page)
            }
        }
    }

    /// What was asked for and not answered is asked for again.
    mutating func forgetAsked() { askedPages.removeAll() }
}

/// A ring's memory by IO addresses. Where its pages lie apart they are mapped once more, side by side: a driver's
/// kernel makes what its device sees as one piece of pages from anywhere.
struct RingPages: GuestMemory {
    let memory: VhostMemory
    let translations: TranslationTable

    func admits(_ run: GuestRun, forWriting: Bool) -> Bool { true }

    /// Whether all of a run may be used so.
    func permits(_ run: GuestRun, _ rights: AccessRights) -> Bool {
        pieces(run)?.allSatisfy { $0.rights.isSuperset(of: rights) } ?? false
    }

    /// The driver's address of a run that is in one piece there.
    func guestAddress(_ run: GuestRun) -> UInt64? {
        guard let pieces = pieces(run), let first = pieces.first else { return nil }
        var next = first.target
        for piece in pieces {
            guard piece.target == next else { return nil }
            next = piece.target &+ UInt64(piece.byteCount)
        }
        return first.target
    }

    private func pieces(_ run: GuestRun) -> [(target: UInt64, byteCount: UInt32, rights: AccessRights)]? {
        var pieces: [(target: UInt64, byteCount: UInt32, rights: AccessRights)] = []
        var rest = run
        while rest.byteCount > 0 {
            guard let entry = translations.entry(at: rest.address) else { return nil }
            let left = entry.last - rest.address
            let count = UInt64(rest.byteCount) - 1 <= left ? rest.byteCount : UInt32(truncatingIfNeeded: left + 1)
            pieces.append((entry.target + (rest.address - entry.first), count, entry.rights))
            rest = GuestRun(address: rest.address &+ UInt64(count), byteCount: rest.byteCount - count)
        }
        return pieces
    }

    func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        if let address = guestAddress(run) {
            let found = memory.guestMap.piece(GuestRun(address: address, byteCount: run.byteCount), forWriting: forWriting)
            if case .here(_, _, let count) = found, count == run.byteCount { return found }
        }
        return sideBySide(run) ?? .outside
    }

    private func sideBySide(_ run: GuestRun) -> GuestPiece? {
        let first = run.address & ~(TranslatedMemory.pageBytes - 1)
        var pages: [(descriptor: Descriptor, offset: Int)] = []
        var address = first
        while true {
            // What of the page belongs to the run is enough to find it by.
            let inside = max(address, run.address)
            guard let entry = translations.entry(at: inside) else { return nil }
            let target = entry.target + (inside - entry.first)
            let start = inside % TranslatedMemory.pageBytes
            guard target % TranslatedMemory.pageBytes == start, let page = memory.page(of: target - start) else { return nil }
            pages.append(page)
            let lastOfPage = address | (TranslatedMemory.pageBytes - 1)
            guard lastOfPage < run.address + UInt64(run.byteCount - 1) else { break }
            address = lastOfPage + 1
        }
        guard let region = try? SharedRegion(contiguous: pages, writable: true) else { return nil }
        return .here(region, offset: Int(run.address - first), byteCount: run.byteCount)
    }
}

extension VhostMemory {
    /// Where a page of the guest's is kept.
    fileprivate func page(of address: UInt64) -> (descriptor: Descriptor, offset: Int)? {
        for entry in entries where entry.region.guestAddress <= address {
            let distance = address - entry.region.guestAddress
            let place = entry.region.fileOffset + distance
            if distance < entry.region.byteCount, entry.region.byteCount - distance >= TranslatedMemory.pageBytes,
                place % TranslatedMemory.pageBytes == 0
            {
                return (entry.descriptor, Int(place))
            }
        }
        return nil
    }
}
