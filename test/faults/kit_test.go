// Package faults_test injects every fault that the protocol was made for, each into a
// whole broker over real stores and a provider behind real HTTP, and looks at what is
// left of it. docs/reliability.md lists them; the world in which they happen is that of
// internal/broker/brokertest.
package faults_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

// mutant declares a change that takes the defence of a row out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

// world is a World, with what the rows here do to it.
type world struct{ *brokertest.World }

// newWorld is one whose tables are in a file.
func newWorld(t *testing.T, profile string) *world {
	t.Helper()
	return &world{brokertest.New(t, brokertest.Options{Profile: profile})}
}

// onStores runs a test in a world on every store that is here.
func onStores(t *testing.T, profile string, test func(t *testing.T, w *world)) {
	t.Helper()
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		test(t, &world{brokertest.New(t, brokertest.Options{Profile: profile, Store: store})})
	})
}
