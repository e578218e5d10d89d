package wire

import "time"

// Integration is one integration with the state of its clients.
type Integration struct {
	Name        string   `json:"name"`
	Provider    string   `json:"provider"`
	DisplayName string   `json:"display_name"`
	Grants      []string `json:"grants"`
	Scopes      []string `json:"scopes"`
	Binding     string   `json:"binding"`      // confirm or cookie
	Connect     string   `json:"connect"`      // session or public
	Refresh     string   `json:"refresh"`      // ahead, on_demand or keepalive
	RedirectURI string   `json:"redirect_uri"` // to be registered at the provider; "" where no browser comes back
	Status      string   `json:"status"`       // ok or suspended
	Clients     []Client `json:"clients"`
}

// Client is one registration of an integration at its provider.
type Client struct {
	Name    string  `json:"name"`
	State   string  `json:"state"` // current or draining
	Circuit Circuit `json:"circuit"`
	// SecretSince is when this client id and secret were first seen; null: not known.
	SecretSince *time.Time `json:"secret_since"`
}

// Circuit says whether anything is sent for a client.
type Circuit struct {
	State       string     `json:"state"` // closed or open
	Since       *time.Time `json:"since"`
	Reason      *string    `json:"reason"`
	NextProbeAt *time.Time `json:"next_probe_at"`
}

// Hour holds the counters of one hour and integration.
type Hour struct {
	Hour        time.Time        `json:"hour"` // its beginning
	Integration string           `json:"integration"`
	Outcomes    map[string]int64 `json:"outcomes"`
	LatenessS   map[string]int64 `json:"lateness_s"` // p50, p90, p99 and max of due to saved
}

// Diagnosis is the answer of GET /v1/admin/doctor: what only the server can tell.
type Diagnosis struct {
	Now          time.Time  `json:"now"`          // by the server's clock
	LastTickAt   *time.Time `json:"last_tick_at"` // the last minute that the schedule has finished; null: none yet
	RestoreEpoch int64      `json:"restore_epoch"`
	// StoreMoved: the store is not where it was in this epoch, as after a restore whose
	// epoch was not raised.
	StoreMoved bool `json:"store_moved"`
	// UnreadableSecrets are the clients whose secrets the server could not read just now.
	UnreadableSecrets []ClientName `json:"unreadable_secrets"`
}

// ClientName names a client of an integration.
type ClientName struct {
	Integration string `json:"integration"`
	Client      string `json:"client"`
}

// Health is the answer of GET /healthz.
type Health struct {
	Status  string `json:"status"` // ok, or degraded where the store is away
	Version string `json:"version"`
	Store   string `json:"store"` // ok or unreachable
}

// RotateResult is the answer of POST /v1/admin/rotate-key: the numbers of the data keys
// that seal from now on.
type RotateResult struct {
	Flow  int64 `json:"flow"`
	Token int64 `json:"token"`
}

// ResealResult is the answer of POST /v1/admin/reseal: what became of connections.
type ResealResult struct {
	Resealed int     `json:"resealed"` // stand under the primary key now
	Current  int     `json:"current"`  // stood under it before
	Busy     int     `json:"busy"`     // left alone: a refresh was under way
	Failed   int     `json:"failed"`   // do not open; the log names them
	Next     *string `json:"next"`     // the cursor of the next request, null at the end
}

// ReplayResult is the answer of POST /v1/admin/rescue-replay, chunk-replay and
// webhook-replay.
type ReplayResult struct {
	Replayed int  `json:"replayed"`
	Pending  int  `json:"pending"` // could not be replayed yet; the log says why
	More     bool `json:"more"`    // the time was over: the same request goes on
}
