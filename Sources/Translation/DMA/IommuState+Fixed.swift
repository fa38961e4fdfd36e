// What is linked outside of reservations, at addresses of somebody's choice. The data path does not know of it: only
// when a reservation meets such a page is it taken out of the space, and only when the space has no more is it looked
// whether it could come back.

import FrameMaps

/// A unit of the space in which nothing but fixed links is.
struct FixedUnit {
    let place: Int
    let order: Int
}

extension IommuState {
    /// Takes 1 << `order` pages in which nothing is linked.
    mutating func takeUnlinked(_ order: Int) -> Int? {
        while let place = space.allocate(order: order) {
            if !hasFixed || tables.firstPresent(UInt64(place), 1 << UInt64(order)) == nil { return place }
            keepFixed(place, order)
        }
        return nil
    }

    /// Of a unit that was taken: what is linked stays taken, the rest goes back.
    private mutating func keepFixed(_ place: Int, _ order: Int) {
        let (start, count) = (UInt64(place), UInt64(1) << UInt64(order))
        if tables.firstPresent(start, count) == nil {
            space.release(place, order: order)
        } else if order == 0 || tables.firstAbsent(start, count) == nil {
            fixed.append(FixedUnit(place: place, order: order))
        } else {
            keepFixed(place, order - 1)
            keepFixed(place + 1 << (order - 1), order - 1)
        }
    }

    /// Gives back what is linked no more.
    mutating func giveBackFixed() {
        let units = fixed
        fixed = []
        for unit in units { keepFixed(unit.place, unit.order) }
    }
}
