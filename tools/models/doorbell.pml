/* The doorbell of a shared ring: event hold-off and final check, in both directions (SharedRing's FrontRing and BackRing).
 *
 * A frontend and a backend share S slots and four index words. Each sleeps on its bell when it finds nothing to do; each rings the
 * other's bell only if the other's event index lies in what was just published. If a wake-up can be lost, both sides end up asleep,
 * which the checker reports as an invalid end state. Assertions say that whoever reads a slot finds what its index promises.
 *
 * Memory is weak where the code says so. Each side's stores wait in a buffer of its own and reach memory in any order, but for two
 * things the code asks for: a release store of a producer index waits for the slots before it, and a full fence waits for all. Loads are
 * performed in program order, which is what the acquire loads of the indices ask for; see README.md for what that leaves out.
 *
 * Mutants, each of which must fail: NO_FINAL_CHECK, NO_PUBLISH_FENCE, NO_ARM_FENCE, NO_RELEASE, LATE_EVENT, NO_OVERFLOW_ROOM.
 */

#ifndef S
#define S 2             /* slots */
#endif
#define M 8             /* indices run freely modulo M, as the real ones do modulo 2^32; M > 2 * S */
#define NONE 255
#define RESPONSE 100    /* a slot holds i for request i, RESPONSE + i for response i */

#define MINUS(a, b) (((a) + M - (b)) % M)
#define NEXT(a) (((a) + 1) % M)

/* Shared memory. */
byte slot[S] = NONE;
byte requestProduced, responseProduced;
byte requestEvent = 1, responseEvent = 1;

/* Bells: a wake-up stays until it is taken, as an eventfd's does. */
bool frontBell, backBell;

/* Stores that have not reached memory yet. */
byte frontSlot[S] = NONE, backSlot[S] = NONE;
byte frontProduced = NONE, backProduced = NONE;
byte frontEvent = NONE, backEvent = NONE;

#if S == 2
#define EMPTY(slots) (slots[0] == NONE && slots[1] == NONE)
#else
#define EMPTY(slots) (slots[0] == NONE)
#endif

#ifdef NO_RELEASE
#define RELEASED(slots) true
#else
#define RELEASED(slots) EMPTY(slots)
#endif

#define FRONT_FENCE (EMPTY(frontSlot) && frontProduced == NONE && frontEvent == NONE)
#define BACK_FENCE (EMPTY(backSlot) && backProduced == NONE && backEvent == NONE)

#ifdef NO_PUBLISH_FENCE
#define FRONT_PUBLISH_FENCE true
#define BACK_PUBLISH_FENCE true
#else
#define FRONT_PUBLISH_FENCE FRONT_FENCE
#define BACK_PUBLISH_FENCE BACK_FENCE
#endif

#ifdef NO_ARM_FENCE
#define FRONT_ARM_FENCE true
#define BACK_ARM_FENCE true
#else
#define FRONT_ARM_FENCE FRONT_FENCE
#define BACK_ARM_FENCE BACK_FENCE
#endif

#ifdef LATE_EVENT
#define ARMED(consumed) ((consumed + 2) % M)    /* the second entry from here would wake us */
#else
#define ARMED(consumed) NEXT(consumed)
#endif

#ifdef NO_OVERFLOW_ROOM
#define ROOM (S + 1)                            /* a frontend that forgets responses are still to come */
#else
#define ROOM S
#endif

active proctype FrontMemory() {
end:
    do
    :: d_step { frontSlot[0] != NONE -> slot[0] = frontSlot[0]; frontSlot[0] = NONE }
#if S == 2
    :: d_step { frontSlot[1] != NONE -> slot[1] = frontSlot[1]; frontSlot[1] = NONE }
#endif
    :: d_step { frontProduced != NONE && RELEASED(frontSlot) -> requestProduced = frontProduced; frontProduced = NONE }
    :: d_step { frontEvent != NONE -> responseEvent = frontEvent; frontEvent = NONE }
    od
}

active proctype BackMemory() {
end:
    do
    :: d_step { backSlot[0] != NONE -> slot[0] = backSlot[0]; backSlot[0] = NONE }
#if S == 2
    :: d_step { backSlot[1] != NONE -> slot[1] = backSlot[1]; backSlot[1] = NONE }
#endif
    :: d_step { backProduced != NONE && RELEASED(backSlot) -> responseProduced = backProduced; backProduced = NONE }
    :: d_step { backEvent != NONE -> requestEvent = backEvent; backEvent = NONE }
    od
}

active proctype Frontend() {
    byte pushed, published, consumed, available, fresh, event;
    bool worked;
    do
    ::  worked = false;
        /* Push while there is room, for as long as we like; at least one if nothing is outstanding. */
        do
        :: MINUS(pushed, consumed) < ROOM -> d_step { frontSlot[pushed % S] = pushed; pushed = NEXT(pushed) }
        :: pushed != consumed -> break
        od;
        /* publish() */
        if
        :: pushed != published ->
            d_step { fresh = MINUS(pushed, published); published = pushed; frontProduced = pushed };
            FRONT_PUBLISH_FENCE;
            event = requestEvent;
            if
            :: MINUS(pushed, event) < fresh -> backBell = true
            :: else
            fi
        :: else
        fi;
        /* nextResponse() until there is none */
        available = responseProduced;
        do
        :: consumed != available ->
            d_step { assert(slot[consumed % S] == RESPONSE + consumed); consumed = NEXT(consumed); worked = true }
        :: else -> break
        od;
        /* armAndRecheck(), then sleep */
        if
        :: !worked && pushed != consumed ->
            frontEvent = ARMED(consumed);
            FRONT_ARM_FENCE;
#ifndef NO_FINAL_CHECK
            available = responseProduced;
#endif
            if
            :: available == consumed -> d_step { frontBell -> frontBell = false }
            :: else
            fi
        :: else
        fi;
        d_step { fresh = 0; event = 0; available = 0 }
    od
}

active proctype Backend() {
    byte consumed, pushed, published, available, fresh, event;
    bool worked;
    do
    ::  worked = false;
        /* nextRequest() until there is none */
        available = requestProduced;
        assert(MINUS(available, published) <= S);
        do
        :: consumed != available ->
            d_step { assert(slot[consumed % S] == consumed); consumed = NEXT(consumed); worked = true }
        :: else -> break
        od;
        /* Answer, and publish after any number of answers. */
        do
        :: pushed != consumed -> d_step { backSlot[pushed % S] = RESPONSE + pushed; pushed = NEXT(pushed) }
        :: pushed != published ->
            d_step { fresh = MINUS(pushed, published); published = pushed; backProduced = pushed };
            BACK_PUBLISH_FENCE;
            event = responseEvent;
            if
            :: MINUS(pushed, event) < fresh -> frontBell = true
            :: else
            fi
        :: pushed == consumed && pushed == published -> break
        od;
        /* armAndRecheck(), then sleep */
        if
        :: !worked ->
            backEvent = ARMED(consumed);
            BACK_ARM_FENCE;
#ifndef NO_FINAL_CHECK
            available = requestProduced;
#endif
            if
            :: available == consumed -> d_step { backBell -> backBell = false }
            :: else
            fi
        :: else
        fi;
        d_step { fresh = 0; event = 0; available = 0 }
    od
}
