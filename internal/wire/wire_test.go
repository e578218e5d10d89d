package wire_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/evergrant/evergrant/internal/wire"
)

func TestTimesAndNulls(t *testing.T) {
	for unix, want := range map[int64]string{
		0: `"1970-01-01T00:00:00Z"`, 1772366400: `"2026-03-01T12:00:00Z"`, -1: `"1970-01-01T00:00:00Z"`, math.MaxInt64: `"9999-12-31T23:59:59Z"`,
	} {
		got, err := json.Marshal(wire.Time(unix))
		if err != nil || string(got) != want {
			t.Errorf("%d is %s, %v; want %s", unix, got, err, want)
		}
	}
	got, err := json.Marshal([]any{wire.TimeOrNull(0), wire.TextOrNull(""), wire.TimeOrNull(1), wire.TextOrNull("a")})
	if err != nil || string(got) != `[null,null,"1970-01-01T00:00:01Z","a"]` {
		t.Errorf("%s, %v", got, err)
	}
}

// What is unknown is null, and there are no members that come and go.
func TestEmptyAnswersHaveEveryMember(t *testing.T) {
	for want, v := range map[string]any{
		`{"status":"","connection_id":null,"error":null}`:                         wire.Session{},
		`{"items":null,"next":null}`:                                              wire.List[wire.Connection]{},
		`{"state":"","since":null,"reason":null,"next_probe_at":null}`:            wire.Circuit{},
		`{"type":"","title":"","status":0,"detail":"","code":"","request_id":""}`: wire.Problem{},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}
