// Package modelcheck proves the refresh protocol in small worlds: it runs the step
// machines of package refresh, the very ones that production runs, through every
// order of events that a bounded world allows, and checks the protocol's invariants
// after each.
//
// A world is one connection (and, in some scenarios, the sessions and connections of
// a consent), two refresh workers, a reconnect, a disconnect, a provider, a network
// that keeps no order and delivers requests after their sender gave up, a queue of
// rescued saves and a budget of faults. What happens between two worlds is one call
// of Next, NextConsent or NextDisconnect and one effect: a conditional write rendered
// and applied by packages connection and item, a request put on the network, an
// answer that arrives or does not.
//
// The states of the machines, their effects and the stored items are interned, so a
// world is a few dozen small numbers and every transition is worked out by production
// code once and looked up ever after. Worlds already seen are recognised by a 64-bit
// hash; see Result for what that means.
//
// Two things are abstract. Time has no length: a reader may find any lease run out,
// whatever its holder does, and the horizon has passed exactly when nobody can still
// save an answer; Timed runs the same machine under a real clock instead. And sealing
// is a label that names token, place and generation, so that opening under another
// generation is noticed.
//
// Mistakes are planted around the machines, never in them: each must break an
// invariant, or the check itself is worth nothing.
package modelcheck
