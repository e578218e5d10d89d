// The race detector allocates for itself.
//go:build !race

package guard_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/provider"
)

// answers is a provider that is no further than a function call.
type answers struct{ body string }

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
	}, nil
}

// What one operation allocates, store in a file and network left out. It is what the
// operation was measured to allocate, with a tenth for new releases of Go.
func TestAllocations(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{})
	id := w.Connect("alice")
	p := w.Start(func(c *broker.Config) {
		c.Store = w.Store // the tables themselves: nothing watches
		c.Events = nil
		c.Provider = &provider.Client{
			Transport:     answers{`{"access_token":"CANARY-another","refresh_token":"CANARY-next","token_type":"Bearer","expires_in":7200}`},
			AllowLoopback: true, Now: w.Now,
		}
	})
	measure := func(operation string, most float64, do func() error) {
		t.Helper()
		got := testing.AllocsPerRun(50, func() {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		})
		if got > most*1.1 || got < most*0.8 {
			t.Errorf("%s allocates %.0f times; it was %.0f", operation, got, most)
		}
	}
	measure("a token read", 107, func() error {
		_, err := p.Token(t.Context(), brokertest.Caller(), id, 60, nil)
		return err
	})
	measure("a refresh", 677, func() error {
		w.Advance(2 * time.Hour)
		return p.RefreshAll(t.Context(), []string{id}, w.Minute())
	})
}
