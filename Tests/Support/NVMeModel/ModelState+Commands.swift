// What the model's commands do.

extension ModelState {
    mutating func performAdmin(_ command: ModelCommand, _ memory: ModelMemory) -> (UInt16, UInt32) {
        switch command.opcode {
        case 0x06: return identify(command, memory)
        case 0x09:
            guard command.words[0] & 0xFF == 7 else { return (0x4002, 0) }
            if hasSetQueueCount { violations.append("Set Features 7 twice") }
            hasSetQueueCount = true
            let granted = UInt32(settings.grantedQueues - 1)
            return (0, granted << 16 | granted)
        case 0x05:
            let (queue, size) = (Int(command.words[0] & 0xFFFF), Int(command.words[0] >> 16) + 1)
            let vector = Int(command.words[1] >> 16)
            guard command.words[1] & 3 == 3, command.prp1 & 0xFFF == 0, size <= settings.queueEntries, completion[queue] == nil
            else { return (0x4002, 0) }
            guard vector < events.count else { return (0x4108, 0) }
            completion[queue] = Completion(base: command.prp1, size: size, vector: vector)
            return (0, 0)
        case 0x01:
            let (queue, size) = (Int(command.words[0] & 0xFFFF), Int(command.words[0] >> 16) + 1)
            let answers = Int(command.words[1] >> 16)
            guard command.words[1] & 1 == 1, command.prp1 & 0xFFF == 0, size <= settings.queueEntries, submission[queue] == nil
            else { return (0x4002, 0) }
            guard completion[answers] != nil else { return (0x4100, 0) }
            submission[queue] = Submission(base: command.prp1, size: size, completion: answers)
            return (0, 0)
        case 0x00:
            return (submission.removeValue(forKey: Int(command.words[0] & 0xFFFF)) == nil ? 0x4101 : 0, 0)
        case 0x04:
            let queue = Int(command.words[0] & 0xFFFF)
            if submission.values.contains(where: { $0.completion == queue }) { return (0x410C, 0) }
            return (completion.removeValue(forKey: queue) == nil ? 0x4101 : 0, 0)
        case 0x08: return (0, 1)
        default: return (0x4001, 0)
        }
    }

    private mutating func identify(_ command: ModelCommand, _ memory: ModelMemory) -> (UInt16, UInt32) {
        var page = [UInt8](repeating: 0, count: 4096)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for byte in 0..<count { page[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)) }
        }
        switch command.words[0] & 0xFF {
        case 0:
            guard let namespace = settings.namespaces[command.namespace] else { return (0x400B, 0) }
            put(UInt64(namespace.blocks), 0, 8)
            put(UInt64(namespace.blocks), 8, 8)
            page[25] = 2
            page[26] = 2
            page[33] = 1 | 1 << 3
            // Two formats that it does not have, and its own.
            page[128 + 2] = 9
            page[132 + 2] = 12
            put(UInt64(namespace.metadata), 136, 2)
            page[136 + 2] = UInt8(namespace.shift)
        case 1:
            let serial = settings.serial + String(repeating: " ", count: max(0, 20 - settings.serial.count))
            for (index, byte) in "\(serial)MODEL                                   FW      ".utf8.enumerated() {
                page[4 + index] = byte
            }
            page[77] = settings.transferShift
            page[512] = 0x66
            page[513] = 0x44
            page[520] = 1 << 2 | 1 << 3
            page[525] = settings.hasCache ? 7 : 0
        case 2: for (index, number) in settings.namespaces.keys.sorted().enumerated() { put(UInt64(number), index * 4, 4) }
        default: return (0x4002, 0)
        }
        memory.write(page, at: command.prp1)
        return (0, 0)
    }

    mutating func performIO(_ command: ModelCommand, _ memory: ModelMemory) -> (UInt16, UInt32) {
        guard let namespace = settings.namespaces[command.namespace] else { return (0x400B, 0) }
        let shift = namespace.shift
        func outside(_ block: UInt64, _ count: Int) -> Bool {
            block > UInt64(namespace.blocks) || count > namespace.blocks - Int(block)
        }
        switch command.opcode {
        case 0: return (0, 0)
        case 1, 2:
            if outside(command.block, command.count) { return (0x4080, 0) }
            let bytes = command.count << shift
            if settings.transferShift > 0, bytes > 4096 << Int(settings.transferShift) {
                violations.append("\(bytes) bytes are more than MDTS")
                return (0x4002, 0)
            }
            var place = Int(command.block) << shift
            for (address, count) in pieces(command, bytes, memory) {
                if command.opcode == 1 {
                    storage[command.namespace]?.replaceSubrange(place..<place + count, with: memory.read(address, count))
                } else {
                    memory.write(Array((storage[command.namespace] ?? [])[place..<place + count]), at: address)
                }
                place += count
            }
            return (0, 0)
        case 8:
            if outside(command.block, command.count) { return (0x4080, 0) }
            zero(command.namespace, command.block, command.count, shift)
            return (0, 0)
        case 9:
            let range = memory.read(command.prp1, 16)
            func number(_ offset: Int, _ count: Int) -> UInt64 {
                (0..<count).reduce(0) { $0 | UInt64(range[offset + $1]) << UInt64($1 * 8) }
            }
            if command.words[0] != 0 || command.words[1] != 4 { return (0x4002, 0) }
            if outside(number(8, 8), Int(number(4, 4))) { return (0x4080, 0) }
            zero(command.namespace, number(8, 8), Int(number(4, 4)), shift)
            return (0, 0)
        default: return (0x4001, 0)
        }
    }

    private mutating func zero(_ namespace: UInt32, _ block: UInt64, _ count: Int, _ shift: Int) {
        let start = Int(block) << shift
        storage[namespace]?.replaceSubrange(start..<start + count << shift, with: repeatElement(0, count: count << shift))
    }

    /// Where a transfer's bytes are, by the rules of page lists.
    private mutating func pieces(_ command: ModelCommand, _ bytes: Int, _ memory: ModelMemory) -> [(UInt64, Int)] {
        if command.prp1 & 3 != 0 { violations.append("PRP1 at 0x\(String(command.prp1, radix: 16))") }
        var pieces = [(command.prp1, min(bytes, 4096 - Int(command.prp1 & 0xFFF)))]
        var left = bytes - pieces[0].1
        if left == 0 { return pieces }
        if left <= 4096 {
            if command.prp2 & 0xFFF != 0 { violations.append("PRP2 at 0x\(String(command.prp2, radix: 16))") }
            return pieces + [(command.prp2, left)]
        }
        var entry = command.prp2
        while left > 0 {
            if entry & 7 != 0 || entry & ~0xFFF != command.prp2 & ~0xFFF {
                violations.append("a list beyond its page")
                return pieces
            }
            let address = memory.read(entry, 8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << UInt64($1.offset * 8) }
            if address & 0xFFF != 0 { violations.append("a list's entry at 0x\(String(address, radix: 16))") }
            pieces.append((address, min(left, 4096)))
            left -= min(left, 4096)
            entry += 8
        }
        return pieces
    }
}
