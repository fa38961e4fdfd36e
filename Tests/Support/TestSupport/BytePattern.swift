/// Bytes that differ from place to place and from seed to seed; quick in a debug build.
public func pattern(_ count: Int, seed: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        buffer.withMemoryRebound(to: UInt64.self) { words in
            for index in words.indices { words[index] = UInt64(index) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(seed) }
        }
        initialized = count
    }
}
