// An answer as bytes.

import HypervisorRules
import LinuxSystem
import XenTypes

extension Answer {
    func encode(sequence: UInt32) -> [UInt8] {
        var writer = MessageWriter()
        writer.put(kind)
        writer.put(sequence)
        switch self {
        case .done: break
        case .refused(let refusal): refusal.encode(&writer)
        case .welcome(let domain), .domain(let domain): writer.put(domain.rawValue)
        case .tableFrame(let index): writer.put(index)
        case .run(let run): writer.put(run.id.rawValue); writer.put(run.firstFrame)
        case .retired(let atOnce): writer.put(UInt8(atOnce ? 1 : 0))
        case .mapped(let results, let announcements):
            writer.put(UInt32(results.count))
            for result in results {
                writer.put(result.status.rawValue); writer.put(result.handle); writer.put(result.run.rawValue)
                writer.put(result.page)
            }
            writer.put(UInt32(announcements.count))
            for item in announcements {
                writer.put(item.run.rawValue); writer.put(item.pages)
                writer.put(item.machine.start); writer.put(item.machine.factor); writer.put(item.machine.addend)
            }
        case .unmapped(let statuses):
            writer.put(UInt32(statuses.count))
            for status in statuses { writer.put(status.rawValue) }
        case .port(let id, let port): writer.put(id.rawValue); writer.put(port.rawValue)
        case .domains(let domains):
            writer.put(UInt32(domains.count))
            for domain in domains { writer.put(domain.rawValue) }
        case .usage(let usage): for path in HypervisorUsage.fields { writer.put(UInt64(usage[keyPath: path])) }
        case .storeUsage(let usage):
            for path in LoopbackStoreUsage.fields { writer.put(UInt64(usage[keyPath: path])) }
        case .portStatus(let status): status.encode(&writer)
        case .described(let domains):
            writer.put(UInt32(domains.count))
            for domain in domains { domain.encode(&writer) }
        }
        return writer.bytes
    }

    private var kind: UInt16 {
        switch self {
        case .done: 0
        case .refused: 1
        case .welcome: 2
        case .tableFrame: 3
        case .run: 4
        case .retired: 5
        case .mapped: 6
        case .unmapped: 7
        case .port: 8
        case .domain: 9
        case .domains: 10
        case .usage: 11
        case .storeUsage: 12
        case .portStatus: 13
        case .described: 14
        }
    }

    static func decode(_ bytes: [UInt8]) throws(MalformedMessage) -> (Answer, sequence: UInt32) {
        var reader = MessageReader(bytes)
        let kind = try reader.take(UInt16.self)
        let sequence = try reader.take(UInt32.self)
        let answer = try decode(kind, &reader)
        try reader.end()
        return (answer, sequence)
    }

    private static func decode(_ kind: UInt16, _ reader: inout MessageReader) throws(MalformedMessage) -> Answer {
        switch kind {
        case 0: return .done
        case 1: return .refused(try Refusal.decode(&reader))
        case 2: return .welcome(DomainID(try reader.take(UInt16.self)))
        case 3: return .tableFrame(index: try reader.take())
        case 4: return .run(NewRun(id: RunID(try reader.take()), firstFrame: try reader.take()))
        case 5: return .retired(atOnce: try reader.take(UInt8.self) != 0)
        case 6: return try mapped(&reader)
        case 7:
            let count = try reader.takeCount(of: 2, atMost: Request.mostGrants)
            var statuses: [GrantStatus] = []
            for _ in 0..<count { statuses.append(try status(&reader)) }
            return .unmapped(statuses)
        case 8: return .port(PortID(try reader.take()), EventPort(try reader.take()))
        case 9: return .domain(DomainID(try reader.take(UInt16.self)))
        case 10:
            let count = try reader.takeCount(of: 2, atMost: 1 << 15)
            var domains: [DomainID] = []
            for _ in 0..<count { domains.append(DomainID(try reader.take(UInt16.self))) }
            return .domains(domains)
        case 11:
            var usage = HypervisorUsage()
            for path in HypervisorUsage.fields { usage[keyPath: path] = Int(truncatingIfNeeded: try reader.take(UInt64.self)) }
            return .usage(usage)
        case 12:
            var usage = LoopbackStoreUsage()
            for path in LoopbackStoreUsage.fields { usage[keyPath: path] = Int(truncatingIfNeeded: try reader.take(UInt64.self)) }
            return .storeUsage(usage)
        case 13: return .portStatus(try PortStatus.decode(&reader))
        case 14:
            let count = try reader.takeCount(of: DomainDescription.byteCount, atMost: DomainDescription.mostAtOnce)
            var domains: [DomainDescription] = []
            for _ in 0..<count { domains.append(try DomainDescription.decode(&reader)) }
            return .described(domains)
        default: throw MalformedMessage()
        }
    }

    private static func mapped(_ reader: inout MessageReader) throws(MalformedMessage) -> Answer {
        let count = try reader.takeCount(of: 18, atMost: Request.mostGrants)
        var results: [MapResult] = []
        results.reserveCapacity(count)
        for _ in 0..<count {
            results.append(
                MapResult(
                    status: try status(&reader), handle: try reader.take(), run: RunID(try reader.take()),
                    page: try reader.take()))
        }
        let runs = try reader.takeCount(of: 24, atMost: PacketSocket.mostDescriptors)
        var announcements: [RunAnnouncement] = []
        for _ in 0..<runs {
            announcements.append(
                RunAnnouncement(
                    run: RunID(try reader.take()), pages: try reader.take(),
                    machine: MachineRun(start: try reader.take(), factor: try reader.take(), addend: try reader.take())))
        }
        return .mapped(results, announcements)
    }

    /// A status that Xen does not know is a general error.
    private static func status(_ reader: inout MessageReader) throws(MalformedMessage) -> GrantStatus {
        GrantStatus(rawValue: try reader.take()) ?? .generalError
    }
}

extension Refusal {
    func encode(_ writer: inout MessageWriter) {
        let (code, number, text): (UInt16, UInt32, String) =
            switch self {
            case .noSuchDomain(let domain): (1, UInt32(domain.rawValue), "")
            case .domainBusy(let domain): (2, UInt32(domain.rawValue), "")
            case .noSuchRun: (3, 0, "")
            case .port(let port, let reason): (4, port.rawValue, reason)
            case .limit(let what, let size): (5, size, what)
            case .badCount(let count): (6, count, "")
            case .notAllowed: (7, 0, "")
            case .system(let text): (8, 0, text)
            case .noSuchMapping: (9, 0, "")
            case .notWritable: (10, 0, "")
            case .virqTaken(let number): (11, number, "")
            }
        writer.put(code)
        writer.put(number)
        writer.put(text)
    }

    static func decode(_ reader: inout MessageReader) throws(MalformedMessage) -> Refusal {
        let code = try reader.take(UInt16.self)
        let number = try reader.take(UInt32.self)
        let text = try reader.takeText()
        switch code {
        case 1: return .noSuchDomain(DomainID(UInt16(truncatingIfNeeded: number)))
        case 2: return .domainBusy(DomainID(UInt16(truncatingIfNeeded: number)))
        case 3: return .noSuchRun
        case 4: return .port(EventPort(number), text)
        case 5: return .limit(text, number)
        case 6: return .badCount(number)
        case 7: return .notAllowed
        case 8: return .system(text)
        case 9: return .noSuchMapping
        case 10: return .notWritable
        case 11: return .virqTaken(number)
        default: throw MalformedMessage()
        }
    }

    init(_ error: CoreError) {
        switch error {
        case .noSuchDomain(let domain): self = .noSuchDomain(domain)
        case .domainBusy(let domain): self = .domainBusy(domain)
        case .noSuchConnection: self = .notAllowed
        case .noSuchRun: self = .noSuchRun
        case .port(let port, let reason): self = .port(port, reason)
        case .limit(let what, let size): self = .limit(what, UInt32(clamping: size))
        case .badCount(let count): self = .badCount(UInt32(clamping: count))
        case .noSuchMapping: self = .noSuchMapping
        case .notWritable: self = .notWritable
        case .virqTaken(let number): self = .virqTaken(number)
        }
    }
}

extension HypervisorUsage {
    /// In the order of the wire.
    static var fields: [WritableKeyPath<HypervisorUsage, Int>] {
        [\.domains, \.connections, \.grants, \.mappings, \.ports, \.runs, \.pages, \.deferred, \.dying]
    }
}
