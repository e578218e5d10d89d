// Package guard_test keeps the broker as cheap as it is, without a clock: it counts what each
// operation asks of the store and of the provider, what the hot paths allocate, and what each
// function links. These figures are the same on every machine.
//
// A test that fails here says that something became dearer. Either that is a mistake, or it is
// worth its price: then the figure is changed here in the same commit, and docs/performance.md
// tells why.
package guard_test
