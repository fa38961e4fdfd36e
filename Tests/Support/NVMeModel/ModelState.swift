// The model controller's inside: queues and how it comes and goes.

import LinuxSystem

struct ModelState {
    struct Submission {
        let base: UInt64
        let size: Int
        let completion: Int
        var head = 0
        var tail = 0
    }
    struct Completion {
        let base: UInt64
        let size: Int
        let vector: Int
        var tail = 0
        var head = 0
        var phase = true
    }

    var settings: ModelSettings
    var configuration: UInt32
    var adminQueues: UInt32 = 0
    var adminSubmission: UInt64 = 0
    var adminCompletion: UInt64 = 0
    var submission: [Int: Submission] = [:]
    var completion: [Int: Completion] = [:]
    var storage: [UInt32: [UInt8]] = [:]
    var events: [Descriptor] = []
    private var raised: [Int] = []
    var script: @Sendable (ModelCommand) -> ModelAction = { _ in .perform }
    var violations: [String] = []
    var seen: [ModelCommand] = []
    var held: [ModelCommand] = []
    var isGone = false
    var hasFailed = false
    var isCutOff = false
    var wasShutDown = false
    var starts = 0
    var hasSetQueueCount = false
    /// A line is silent from being told of to being armed.
    private(set) var isSilent = true
    private(set) var told = 0
    private(set) var early = 0
    private var isReady: Bool
    private var looks = 0

    init(_ settings: ModelSettings) {
        self.settings = settings
        configuration = settings.isRunning ? 0x46_0001 : 0
        isReady = settings.isRunning
        for (number, namespace) in settings.namespaces {
            storage[number] = [UInt8](repeating: 0, count: namespace.blocks << namespace.shift)
        }
    }

    mutating func powerUp() {
        isGone = false
        isReady = false
        configuration = 0
        (submission, completion, held) = ([:], [:], [])
        hasSetQueueCount = false
    }

    mutating func resize(_ namespace: UInt32, _ blocks: Int) {
        guard let known = settings.namespaces[namespace] else { return }
        settings.namespaces[namespace]?.blocks = blocks
        let more = (blocks - known.blocks) << known.shift
        if more > 0 {
            storage[namespace]?.append(contentsOf: repeatElement(0, count: more))
        } else {
            storage[namespace]?.removeLast(-more)
        }
    }

    mutating func status() -> UInt32 {
        let wanted = configuration & 1 != 0
        if wanted != isReady, !(wanted && settings.neverReady) {
            looks += 1
            if looks >= settings.looksUntilReady {
                isReady = wanted
                looks = 0
            }
        }
        return (isReady ? 1 : 0) | (hasFailed ? 2 : 0) | (wasShutDown && configuration & 1 << 14 != 0 ? 2 << 2 : 0)
    }

    mutating func configure(_ value: UInt32) {
        let (was, now) = (configuration & 1 != 0, value & 1 != 0)
        if was, now, (configuration ^ value) & 0xFF_3FF0 != 0 { violations.append("CC changed while it runs") }
        configuration = value
        if value & 3 << 14 == 1 << 14 { wasShutDown = true }
        if was, !now {
            submission = [:]
            completion = [:]
            held = []
            hasFailed = false
            hasSetQueueCount = false
        }
        if !was, now { enable() }
    }

    private mutating func enable() {
        starts += 1
        wasShutDown = false
        if isReady { violations.append("enabled before it had stopped") }
        if configuration >> 16 & 0xF != 6 || configuration >> 20 & 0xF != 4 { violations.append("entry sizes") }
        let sizes = (Int(adminQueues & 0xFFF) + 1, Int(adminQueues >> 16 & 0xFFF) + 1)
        if adminSubmission & 0xFFF != 0 || adminCompletion & 0xFFF != 0 { violations.append("admin queues not at a page") }
        if sizes.0 > settings.queueEntries || sizes.0 > 64 || sizes.1 > 256 {
            violations.append("AQA 0x\(String(adminQueues, radix: 16))")
        }
        submission[0] = Submission(base: adminSubmission, size: sizes.0, completion: 0)
        completion[0] = Completion(base: adminCompletion, size: sizes.1, vector: 0)
    }

    mutating func doorbell(_ offset: Int, _ value: UInt32, _ memory: ModelMemory) {
        let number = (offset - 0x1000) / (4 << settings.doorbellShift)
        let (queue, isCompletion) = (number / 2, number & 1 == 1)
        guard configuration & 1 != 0 else { return violations.append("a doorbell while it does not run") }
        if isCompletion {
            // After a reset an old doorbell may still be rung once: an event, no more.
            guard let place = completion[queue] else { return }
            let used = (place.tail - place.head + place.size) % place.size
            let moved = (Int(value) - place.head + place.size) % place.size
            if moved == 0, settings.mayRepeatDoorbells { return }
            if Int(value) >= place.size || moved == 0 || moved > used {
                violations.append("CQ \(queue) head \(value) at \(place.head), tail \(place.tail)")
            }
            completion[queue]?.head = Int(value)
            return
        }
        guard let place = submission[queue] else { return }
        if Int(value) == place.tail, settings.mayRepeatDoorbells { return }
        if Int(value) >= place.size || Int(value) == place.tail { violations.append("SQ \(queue) tail \(value) at \(place.tail)") }
        submission[queue]?.tail = Int(value)
        take(queue, memory)
    }

    private mutating func take(_ queue: Int, _ memory: ModelMemory) {
        while let place = submission[queue], place.head != place.tail {
            let command = ModelCommand(queue: queue, memory.read(place.base + UInt64(place.head * 64), 64))
            submission[queue]?.head = (place.head + 1) % place.size
            if held.contains(where: { $0.queue == queue && $0.identifier == command.identifier }) {
                violations.append("command \(command.identifier) again while it is under way")
            }
            seen.append(command)
            switch script(command) {
            case .perform: perform(command, memory, quietly: false)
            case .fail(let status): complete(queue, command.identifier, status, 0, memory, quietly: false)
            case .hold: held.append(command)
            }
        }
    }

    mutating func perform(_ command: ModelCommand, _ memory: ModelMemory, quietly: Bool) {
        let (status, result) = command.isIO ? performIO(command, memory) : performAdmin(command, memory)
        complete(command.queue, command.identifier, status, result, memory, quietly: quietly)
    }

    mutating func complete(
        _ queue: Int, _ identifier: UInt16, _ status: UInt16, _ result: UInt32, _ memory: ModelMemory, quietly: Bool
    ) {
        let number = submission[queue]?.completion ?? queue
        guard var place = completion[number] else { return }
        if (place.tail + 1) % place.size == place.head { return violations.append("CQ \(number) is full") }
        let entry = place.base + UInt64(place.tail * 16)
        let head = UInt32(submission[queue]?.head ?? 0)
        memory.write(
            [result, 0, head | UInt32(queue) << 16].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } },
            at: entry)
        memory.release(UInt32(identifier) | (place.phase ? 1 << 16 : 0) | UInt32(status) << 17, at: entry + 12)
        place.tail += 1
        if place.tail == place.size {
            place.tail = 0
            place.phase.toggle()
        }
        completion[number] = place
        if !quietly || settings.isLine { raise(place.vector) }
    }

    mutating func raise(_ vector: Int) {
        if settings.isLine {
            if isSilent { return }
            isSilent = true
            told += 1
        }
        raised.append(vector)
    }

    /// A line that has cause to be raised is, at once.
    mutating func arm() {
        if !settings.isLine { violations.append("a message armed") }
        isSilent = false
        guard completion.values.contains(where: { $0.head != $0.tail }) else { return }
        early += 1
        raise(0)
    }

    mutating func takeRaised() -> [Descriptor] {
        defer { raised = [] }
        return raised.compactMap { vector in
            guard vector < events.count else {
                violations.append("vector \(vector) of \(events.count)")
                return nil
            }
            return events[vector]
        }
    }
}
