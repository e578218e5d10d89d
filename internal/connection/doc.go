// Package connection is what Evergrant keeps: the connection, the connect session,
// the state of an authorization under way, and every conditional write that the
// protocol makes of them.
//
// A connection is the stored result of a consent: the sealed tokens of one owner at
// one integration. Two principles carry all writes of it. A save builds, so only
// the generation judges it; a verdict destroys, so generation and attempt both
// judge it.
//
// Each write is a type (Claim, Later, Save, Verdict, Consent, Tombstone, …) whose
// Update method is its condition and its assignments as data. Store carries them
// out on two tables; the stores themselves know nothing of the protocol.
package connection
