// Package threats_test attacks a whole deployment in each way that the design is to
// withstand: the broker and its API over HTTP, real stores, a provider behind real HTTP,
// and browsers and backends that mean harm. docs/security.md lists the attacks; the world
// in which they happen is that of internal/broker/brokertest. A threat that only concerns
// one room may have its test beside that room's code instead.
//
// A row is a line of the table in docs/security.md, a test TestThreat_T…_what_must_be, and
// a mutant that the test must catch, or the reason why there is none.
package threats_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
)

// mutant declares a change that takes the defence of a row out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

// noMutant says why a row has none.
func noMutant(_, _ string) bool { return true }

// integrations are two providers in confirm mode, the default, and one in cookie mode.
const integrations = `
  freeagent: {client_id: app, client_secret: "${env:CLIENT_SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  redbooth: {client_id: app, client_secret: "${env:CLIENT_SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie, return_to: ["http://127.0.0.1:9/back"]}
`

// newWorld is a deployment with these integrations, each provider as its dialect is.
func newWorld(t *testing.T) *brokertest.World {
	t.Helper()
	return brokertest.New(t, brokertest.Options{Integrations: integrations})
}
