// Package doctor finds what keeps a deployment from working, or will before long, and
// says what to do about it.
//
// It looks at three things, each of which may be absent: a configuration, the network
// between here and the providers, and a running server. It is careful: it sends no token
// request, neither a refresh nor a code, shows no client secret to anybody, and changes
// nothing. What it asks a provider is what any browser may ask.
package doctor

import (
	"cmp"
	"slices"
)

// Level says how much a finding matters.
type Level string

// The levels, the gravest first.
const (
	Problem Level = "problem" // does not work, or will not soon: it needs a person
	Warning Level = "warning" // works, and is weaker or nearer to its end than it might seem
	Note    Level = "note"    // was not looked at, or is as it may be
	Fine    Level = "fine"
)

func levels() []Level { return []Level{Problem, Warning, Note, Fine} }

// Finding is one thing that was looked at.
type Finding struct {
	Level Level `json:"level"`
	// Check names what was looked at; the set is closed.
	Check       string `json:"check"`
	Integration string `json:"integration,omitempty"`
	Text        string `json:"text"`
	Remedy      string `json:"remedy,omitempty"` // what to do; "" where there is nothing to be done
}

// The checks.
const (
	checkConfiguration = "configuration"
	checkAPIKeys       = "api_keys"
	checkRedirectURI   = "redirect_uri"
	checkPublicURL     = "public_url"
	checkSecret        = "client_secret"
	checkSecretAge     = "client_secret_age"
	checkSunset        = "sunset"
	checkEndpoints     = "endpoints"
	checkOfflineScope  = "offline_scope"
	checkLifetime      = "lifetime"
	checkClock         = "clock"
	checkKeyFile       = "key_file"
	checkServer        = "server"
	checkStore         = "store"
	checkSchedule      = "schedule"
	checkRestore       = "restore"
	checkClient        = "client"
	checkConnections   = "connections"
	checkTLS           = "tls"
	checkGuard         = "guard"
	checkAlarms        = "alarms"
	checkStack         = "stack"
)

// Sort puts findings in order: the gravest first, then by check and integration.
func Sort(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(levels(), a.Level), slices.Index(levels(), b.Level)),
			cmp.Compare(a.Check, b.Check), cmp.Compare(a.Integration, b.Integration),
		)
	})
}

// Count is how many findings have the level.
func Count(all []Finding, level Level) int {
	n := 0
	for _, f := range all {
		if f.Level == level {
			n++
		}
	}
	return n
}
