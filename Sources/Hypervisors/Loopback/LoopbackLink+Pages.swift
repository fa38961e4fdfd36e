// A peer's pages, by grant or by frame number: where they are, and how they are given back.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

/// A peer's page as the daemon let this process have it.
package struct LinkedPage: Sendable {
    package let handle: UInt32
    package let reference: GrantReference
    package let granter: DomainID
    /// The page's byte offset in its run.
    package let offset: Int
    let view: RunView

    var unmapRequest: UnmapRequest { UnmapRequest(handle: handle, reference: reference, granter: granter) }
}

extension LoopbackLink {
    /// Maps grants, each by itself; one result for each reference.
    package func map(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(LinkFailure) -> [Result<LinkedPage, GrantStatus>] {
        try map(references, granter, access) { .map(granter: granter, access: access, $0) }
    }

    /// Maps pages of another domain by their frame numbers; for domain 0.
    package func mapForeign(
        _ frames: [UInt32], of domain: DomainID, access: GrantAccess
    ) throws(LinkFailure) -> [Result<LinkedPage, GrantStatus>] {
        try map(frames.map { GrantReference($0) }, domain, access) { .mapForeign(domain, access: access, $0.map(\.rawValue)) }
    }

    private func map(
        _ references: [GrantReference], _ granter: DomainID, _ access: GrantAccess, _ request: ([GrantReference]) -> Request
    ) throws(LinkFailure) -> [Result<LinkedPage, GrantStatus>] {
        var results: [Result<LinkedPage, GrantStatus>] = []
        results.reserveCapacity(references.count)
        do throws(LinkFailure) {
            while results.count < references.count {
                let batch = Array(references[results.count...].prefix(Request.mostGrants))
                results += try ask(request(batch)) { answer, descriptors in
                    guard case .mapped(let answers, let runs) = answer, runs.count == descriptors.count,
                        !answers.isEmpty, answers.count <= batch.count
                    else { return nil }
                    for (run, descriptor) in zip(runs, descriptors) {
                        guard add(run, access, descriptor) else { return nil }
                    }
                    return zip(batch, answers).map { page($0, granter, access, $1) }
                }
            }
            return results
        } catch {
            unmap(results.compactMap { try? $0.get() })
            throw error
        }
    }

    private func page(
        _ reference: GrantReference, _ granter: DomainID, _ access: GrantAccess, _ result: MapResult
    ) -> Result<LinkedPage, GrantStatus> {
        guard result.status == .okay else { return .failure(result.status) }
        return .success(
            LinkedPage(
                handle: result.handle, reference: reference, granter: granter,
                offset: Int(result.page) * SharedRegion.pageSize, view: RunView(run: result.run, access: access)))
    }

    /// Takes a descriptor that the daemon passed, if it is what the daemon makes: memory whose size cannot change.
    private func add(_ run: RunAnnouncement, _ access: GrantAccess, _ descriptor: Descriptor) -> Bool {
        let byteCount = Int(run.pages) * SharedRegion.pageSize
        guard run.pages > 0, run.pages <= 1 << 20, SealedMemory.isSealed(descriptor, byteCount: byteCount) else { return false }
        state.withLock {
            $0.runs[RunView(run: run.run, access: access)] = LinkedRun(
                descriptor: descriptor, byteCount: byteCount, machine: run.machine)
        }
        return true
    }

    /// A page's machine frame, as the daemon makes it up.
    package func machineFrame(of page: LinkedPage) -> UInt64? {
        state.withLock { $0.runs[page.view]?.machine.frame(page.offset / SharedRegion.pageSize) }
    }

    /// The whole run that a page lies in. Mapped at the first call and kept, its descriptor closed: a process with
    /// thousands of one-page runs would have none left.
    package func region(of page: LinkedPage) throws(LinkFailure) -> SharedRegion {
        do throws(Errno) {
            let region = try state.withLock { state throws(Errno) -> SharedRegion? in
                guard let run = state.runs[page.view], page.offset < run.byteCount else { return nil }
                if let region = run.region { return region }
                guard let descriptor = run.descriptor else { return nil }
                let region = try SharedRegion(
                    mapping: descriptor, byteCount: run.byteCount, writable: page.view.access == .readWrite)
                state.runs[page.view]?.region = region
                state.runs[page.view]?.descriptor = nil
                return region
            }
            if let region { return region }
        } catch { throw LinkFailure(error, "mapping pages of domain \(page.granter): \(error)") }
        throw LinkFailure(.ioError, "the daemon named a page that it did not pass")
    }

    /// Unmaps; with the daemon gone there is nothing to unmap.
    package func unmap(_ pages: [LinkedPage]) {
        var rest = pages[...]
        while !rest.isEmpty {
            let batch = rest.prefix(Request.mostGrants)
            rest = rest.dropFirst(batch.count)
            let count: Int? = try? ask(.unmap(batch.map(\.unmapRequest))) { answer, _ in
                if case .unmapped(let statuses) = answer { statuses.count } else { nil }
            }
            if count == nil { return }
        }
        hear()
    }

    /// What is to be done when the mapping of `page` ends, by death too.
    /// - Parameters:
    ///   - byte: the byte of the page that becomes 0.
    ///   - port: a port of this process whose peer is rung then.
    package func noticeUnmap(of page: LinkedPage, byte: UInt16?, port: EventPort?) throws(LinkFailure) {
        try done(.noticeUnmap(handle: page.handle, EndOrder(byte: byte, port: port)))
    }

    func done(_ request: Request) throws(LinkFailure) {
        try ask(request) { answer, _ in answer == .done ? () : nil }
    }
}
