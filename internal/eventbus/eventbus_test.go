package eventbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/eventbus"
	"github.com/evergrant/evergrant/internal/wire"
)

func bus(t *testing.T) (*awssim.Server, *eventbus.Bus) {
	t.Helper()
	sim := awssim.New()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return sim, eventbus.New(awsjson.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}, awsjson.EventBridge()), "evergrant-bus")
}

func list(n int) []wire.Event {
	var out []wire.Event
	for k := range n {
		out = append(out, wire.Event{
			ID: fmt.Sprintf("evt_%d", k+1), Type: "connection.created", At: time.Unix(1_700_000_000, 0).UTC(), Sequence: int64(k + 1),
			ConnectionID: "conn_1", Owner: "alice", Integration: "acme", Client: "default", Status: "active",
		})
	}
	return out
}

func TestEntries(t *testing.T) {
	sim, b := bus(t)
	want := list(1)[0]
	if taken, err := b.Send(t.Context(), []wire.Event{want}); taken != 1 || err != nil {
		t.Fatal(taken, err)
	}
	put := sim.Put()
	if len(put) != 1 {
		t.Fatal(put)
	}
	var got wire.Event
	if err := json.Unmarshal([]byte(put[0].Detail), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	e := put[0]
	e.Detail = ""
	if diff := cmp.Diff(awssim.Entry{EventBusName: "evergrant-bus", Source: "evergrant", DetailType: "connection.created", Time: 1_700_000_000}, e); diff != "" {
		t.Error(diff)
	}
}

// An entry that is refused comes again with those after it, though the bus took them.
func TestPartialFailure(t *testing.T) {
	sim, b := bus(t)
	sim.RefuseEntry(1, "ThrottlingException")
	taken, err := b.Send(t.Context(), list(3))
	if taken != 1 || err == nil || !strings.Contains(err.Error(), "ThrottlingException") {
		t.Fatal(taken, err)
	}
	if taken, err = b.Send(t.Context(), list(3)[1:]); taken != 2 || err != nil {
		t.Fatal(taken, err)
	}
	var ids []string
	for _, e := range sim.Put() {
		var got wire.Event
		if err := json.Unmarshal([]byte(e.Detail), &got); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, got.ID)
	}
	if diff := cmp.Diff([]string{"evt_1", "evt_3", "evt_2", "evt_3"}, ids); diff != "" {
		t.Error(diff)
	}
}

func TestTenEntriesARequest(t *testing.T) {
	sim, b := bus(t)
	if taken, err := b.Send(t.Context(), list(23)); taken != 23 || err != nil || len(sim.Put()) != 23 || len(sim.Calls()) != 3 {
		t.Error(taken, err, len(sim.Put()), sim.Calls())
	}
}

func TestRefusedRequest(t *testing.T) {
	sim, b := bus(t)
	sim.Refuse("AWSEvents.PutEvents", "InternalException")
	if taken, err := b.Send(t.Context(), list(2)); taken != 0 || err == nil {
		t.Error(taken, err)
	}
}
