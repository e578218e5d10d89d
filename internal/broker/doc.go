// Package broker is what Evergrant does, one file for each use case: begin
// (connect sessions and the authorize route), complete (the callback and the
// confirmation), token (hand out, compare-and-refresh), imports, disconnect, and
// tick (the schedule).
//
// It checks who may do what, and it turns stored records into what a caller may
// see. How a token is refreshed, a consent stored, a connection ended is the
// business of package refresh; how a provider is spoken to, of package provider.
package broker
