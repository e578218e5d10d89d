// Package refresh is the protocol that keeps tokens alive: refresh, consent and
// disconnect, each as a step machine, and the one driver that performs their
// effects.
//
// A machine is a comparable state and a function Next(state, result) (state,
// effect). It decides everything and touches nothing; the driver touches the store,
// the provider and the clock, and decides nothing. So the code that runs in
// production is the code that an exhaustive check can run over every interleaving.
//
// What the machines guarantee, and every comment below leans on:
//
//   - at most one live claim for a generation, written before the send;
//   - everything that a save needs is at hand before the send, since nothing
//     fallible may stand between the answer and the save;
//   - nobody gets a token that was not stored first;
//   - a lost answer is a doubt, not a verdict: whether the old token may be sent
//     again is the provider profile's to say, and a refusal in doubt is held back
//     until nobody can still save the new token;
//   - a refused save is not a failure until the item as found was read.
package refresh
