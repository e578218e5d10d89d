// Package simulate runs the schedule and the refresh protocol over simulated time, at
// the sizes that no test of wall-clock length can reach.
//
// A Day is a fleet of up to millions of connections. What decides is the production
// code: schedule.Walk names the partitions of each tick, refresh.Next is the step
// machine, and each write is the Update of package connection, applied to the item.
// What is simulated is what they stand on: the clock, the provider (at the effect
// level: an answer, a refusal, a lost answer), the table (a connection is packed into
// a few hundred bytes between two refreshes) and the sealing (a token is its number).
//
// A Year is a smaller fleet with the whole broker: broker.Tick over a table in memory,
// real sealing, and a provider behind http.RoundTripper.
//
// Both count what a deployment would pay and suffer: requests, write units, writes to
// indexes, how late each refresh began, and tokens that expired before they were
// replaced. Both stop the ticks for half an hour and measure how long it takes to catch up.
package simulate
