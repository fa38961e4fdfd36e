/* The doorbell of a virtqueue: events, or flags, and the look after the arming, in both directions (VirtioRing's SplitDriverRing and
 * SplitDeviceRing, and their packed counterparts).
 *
 * A driver and a device share S chains. Each sleeps on its bell when it finds nothing to do; each rings the other's bell only if the
 * other asked for it. If a wake-up can be lost, both sides end up asleep, which the checker reports as an invalid end state. Assertions
 * say that whoever reads an entry finds what was promised.
 *
 * What differs from doorbell.pml: two rings of entries instead of one that goes both ways; an event names the entry that wakes and not
 * the count after it; and the largest ring has half as many entries as an index has values (32768 of 65536), so here M = 2 * S exactly,
 * where the smallest mistake in the event's arithmetic takes an old event for a new one. A packed ring is the same with S entries and
 * a wrap counter: a position modulo 2 * S is an offset and a counter. Its entries' own flags say whose they are, so a release is by
 * entry; publishing several at once holds back the first one's.
 *
 * Memory is weak where the code says so. Each side's stores wait in a buffer of its own and reach memory in any order, but for two
 * things the code asks for: a release store waits for the entries before it, and a full fence waits for all. Loads are performed in
 * program order, which is what the acquire loads ask for; see README.md for what that leaves out.
 *
 * FLAGS: without VIRTIO_F_EVENT_IDX: a side asks for wake-ups at every entry, or at none while it is awake.
 * Mutants, each of which must fail: NO_RECHECK, NO_PUBLISH_FENCE, NO_ARM_FENCE, NO_RELEASE, LATE_EVENT, LARGE_RING.
 */

#ifndef S
#define S 2             /* entries */
#endif
#ifdef LARGE_RING
#define M S             /* a ring of 65536 entries */
#else
#define M (2 * S)       /* positions */
#endif
#define NONE 255
#define ALWAYS 0
#define NEVER 1

#define MINUS(a, b) (((a) + M - (b)) % M)
#define NEXT(a) (((a) + 1) % M)

/* vring_need_event: whether entry `event` is among those from `old` up to `new`. */
#define DUE(event, new, fresh) (MINUS(MINUS(new, event), 1) < (fresh))

/* Shared memory: what each ring's entries hold, the two indices, and when each side wants to be woken. An event of 0 is the first
 * entry; flags of 0 are "always". */
byte offered[S] = NONE, used[S] = NONE;
byte driverIndex, deviceIndex;
byte kickEvent, signalEvent;

/* Bells: a wake-up stays until it is taken, as an eventfd's does. */
bool driverBell, deviceBell;

/* Stores that have not reached memory yet. */
byte driverEntry[S] = NONE, deviceEntry[S] = NONE;
byte driverShown = NONE, deviceShown = NONE;
byte driverWants = NONE, deviceWants = NONE;

#if S == 2
#define EMPTY(entries) (entries[0] == NONE && entries[1] == NONE)
#else
#define EMPTY(entries) (entries[0] == NONE)
#endif

#ifdef NO_RELEASE
#define RELEASED(entries) true
#else
#define RELEASED(entries) EMPTY(entries)
#endif

#define DRIVER_FENCE (EMPTY(driverEntry) && driverShown == NONE && driverWants == NONE)
#define DEVICE_FENCE (EMPTY(deviceEntry) && deviceShown == NONE && deviceWants == NONE)

#ifdef NO_PUBLISH_FENCE
#define DRIVER_PUBLISH_FENCE true
#define DEVICE_PUBLISH_FENCE true
#else
#define DRIVER_PUBLISH_FENCE DRIVER_FENCE
#define DEVICE_PUBLISH_FENCE DEVICE_FENCE
#endif

#ifdef NO_ARM_FENCE
#define DRIVER_ARM_FENCE true
#define DEVICE_ARM_FENCE true
#else
#define DRIVER_ARM_FENCE DRIVER_FENCE
#define DEVICE_ARM_FENCE DEVICE_FENCE
#endif

#ifdef FLAGS
#define WANTED(event, new, fresh) (event == ALWAYS)
#define ARMED(consumed) ALWAYS
#else
#define WANTED(event, new, fresh) DUE(event, new, fresh)
#ifdef LATE_EVENT
#define ARMED(consumed) NEXT(consumed)
#else
#define ARMED(consumed) (consumed)
#endif
#endif

active proctype DriverMemory() {
end:
    do
    :: d_step { driverEntry[0] != NONE -> offered[0] = driverEntry[0]; driverEntry[0] = NONE }
#if S == 2
    :: d_step { driverEntry[1] != NONE -> offered[1] = driverEntry[1]; driverEntry[1] = NONE }
#endif
    :: d_step { driverShown != NONE && RELEASED(driverEntry) -> driverIndex = driverShown; driverShown = NONE }
    :: d_step { driverWants != NONE -> signalEvent = driverWants; driverWants = NONE }
    od
}

active proctype DeviceMemory() {
end:
    do
    :: d_step { deviceEntry[0] != NONE -> used[0] = deviceEntry[0]; deviceEntry[0] = NONE }
#if S == 2
    :: d_step { deviceEntry[1] != NONE -> used[1] = deviceEntry[1]; deviceEntry[1] = NONE }
#endif
    :: d_step { deviceShown != NONE && RELEASED(deviceEntry) -> deviceIndex = deviceShown; deviceShown = NONE }
    :: d_step { deviceWants != NONE -> kickEvent = deviceWants; deviceWants = NONE }
    od
}

active proctype Driver() {
    byte pushed, published, consumed, available, fresh, event;
    byte out;           /* chains offered and not reaped: pushed - consumed, which M = 2 * S positions tell apart up to S */
    bool worked;
    do
    ::  worked = false;
#ifdef FLAGS
        driverWants = NEVER;                                    /* disarm() */
#endif
        /* offer() while there is room, for as long as we like; at least one if nothing is outstanding. */
        do
        :: out < S -> d_step { driverEntry[pushed % S] = pushed; pushed = NEXT(pushed); out++ }
        :: out > 0 -> break
        od;
        /* publish() */
        if
        :: pushed != published ->
            d_step { fresh = MINUS(pushed, published); published = pushed; driverShown = pushed };
            DRIVER_PUBLISH_FENCE;
            event = kickEvent;
            if
            :: WANTED(event, pushed, fresh) -> deviceBell = true
            :: else
            fi
        :: else
        fi;
        /* reap() until there is none */
        available = deviceIndex;
        assert(MINUS(available, consumed) <= out);
        do
        :: consumed != available ->
            d_step { assert(used[consumed % S] == consumed); consumed = NEXT(consumed); out--; worked = true }
        :: else -> break
        od;
        /* armAndRecheck(), then sleep */
        if
        :: !worked && out > 0 ->
            driverWants = ARMED(consumed);
            DRIVER_ARM_FENCE;
#ifndef NO_RECHECK
            available = deviceIndex;
#endif
            if
            :: available == consumed -> d_step { driverBell -> driverBell = false }
            :: else
            fi
        :: else
        fi;
        d_step { fresh = 0; event = 0; available = 0 }
    od
}

active proctype Device() {
    byte consumed, pushed, published, available, fresh, event;
    byte unanswered, unpublished;
    bool worked;
    do
    ::  worked = false;
#ifdef FLAGS
        deviceWants = NEVER;                                    /* disarm() */
#endif
        /* take() until there is none */
        available = driverIndex;
        /* refresh(): never more than a ring past what was published */
        assert(MINUS(available, consumed) <= S - unanswered - unpublished);
        do
        :: consumed != available ->
            d_step { assert(offered[consumed % S] == consumed); consumed = NEXT(consumed); unanswered++; worked = true }
        :: else -> break
        od;
        /* put(), and publish() after any number of them. */
        do
        :: unanswered > 0 ->
            d_step { deviceEntry[pushed % S] = pushed; pushed = NEXT(pushed); unanswered--; unpublished++ }
        :: unpublished > 0 ->
            d_step { fresh = unpublished; unpublished = 0; published = pushed; deviceShown = pushed };
            DEVICE_PUBLISH_FENCE;
            event = signalEvent;
            if
            :: WANTED(event, pushed, fresh) -> driverBell = true
            :: else
            fi
        :: unanswered == 0 && unpublished == 0 -> break
        od;
        /* armAndRecheck(), then sleep */
        if
        :: !worked ->
            deviceWants = ARMED(consumed);
            DEVICE_ARM_FENCE;
#ifndef NO_RECHECK
            available = driverIndex;
#endif
            if
            :: available == consumed -> d_step { deviceBell -> deviceBell = false }
            :: else
            fi
        :: else
        fi;
        d_step { fresh = 0; event = 0; available = 0 }
    od
}
