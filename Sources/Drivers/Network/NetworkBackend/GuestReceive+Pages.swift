// The pages that the frontend posted: taken off the ring when they are needed, looked up once.

import DMA
import FrameMaps
import NetworkProtocol
import SharedRing

extension GuestReceive {
    mutating func takePosted(_ wanted: Int) {
        guard postedCount < wanted else { return }
        do throws(RingError) {
            while postedCount < posted.count {
                let index = ring.nextRequestIndex
                guard let request = try ring.nextRequest() else { break }
                journal?.took(request, at: index)
                append(resolve(request))
            }
        } catch { fault = "\(error)" }
    }

    func resolve(_ request: ReceiveRequest) -> Posted {
        Posted(request: request, page: mappings.page(request.reference, writable: true))
    }

    mutating func append(_ page: Posted) {
        let place = postedHead &+ postedCount
        posted[place < posted.count ? place : place &- posted.count] = page
        postedCount &+= 1
        if page.page == nil { postedUnmapped &+= 1 }
    }

    mutating func lookUpAgain() {
        mappingGeneration = mappings.generation
        postedUnmapped = 0
        for index in 0..<postedCount {
            let place = (postedHead + index) % posted.count
            posted[place] = resolve(posted[place].request)
            if posted[place].page == nil { postedUnmapped += 1 }
        }
    }

    @inline(__always)
    func postedPage(_ index: Int) -> Posted {
        let place = postedHead &+ index
        return posted[place < posted.count ? place : place &- posted.count]
    }

    mutating func dropPosted(_ count: Int) {
        if postedUnmapped > 0 { for index in 0..<count where postedPage(index).page == nil { postedUnmapped -= 1 } }
        postedHead = (postedHead + count) % posted.count
        postedCount -= count
    }
}
