// Package eventbus provides the way of events to a bus of Amazon EventBridge.
//
// Each event is one entry: its source is Source, its detail type the event's type, its
// detail the JSON of wire.Event. The bus gives a delivery an id of its own; the one in the
// detail is the event's, and the same however often it is put.
package eventbus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/wire"
)

// Source is that of every entry, for rules to ask for.
const Source = "evergrant"

// most is how many entries EventBridge takes in one request.
const most = 10

// Bus is one event bus. It may be used concurrently.
type Bus struct {
	client *awsjson.Client
	name   string
}

var _ events.Sink = (*Bus)(nil)

// New returns the bus with that name or ARN.
func New(client *awsjson.Client, name string) *Bus { return &Bus{client: client, name: name} }

// Send implements events.Sink. EventBridge may take some entries of a request and refuse
// others; what it took after a refused one is put again with that one, under the same id.
func (b *Bus) Send(ctx context.Context, list []wire.Event) (taken int, err error) {
	for len(list) > 0 {
		n := min(len(list), most)
		put, err := b.put(ctx, list[:n])
		taken += put
		if err != nil {
			return taken, err
		}
		list = list[n:]
	}
	return taken, nil
}

// entry is one entry of PutEvents.
type entry struct {
	EventBusName string
	Source       string
	DetailType   string
	Detail       string
	Time         int64 // unix s
}

func (b *Bus) put(ctx context.Context, list []wire.Event) (taken int, err error) {
	var in struct{ Entries []entry }
	for _, e := range list {
		detail, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		in.Entries = append(in.Entries, entry{b.name, Source, e.Type, string(detail), e.At.Unix()})
	}
	var out struct {
		FailedEntryCount int
		Entries          []struct{ ErrorCode string }
	}
	if err := b.client.Do(ctx, "PutEvents", in, &out); err != nil {
		return 0, fmt.Errorf("put events: %w", err)
	}
	if len(out.Entries) != len(list) {
		return 0, fmt.Errorf("put events: %d results for %d entries", len(out.Entries), len(list))
	}
	for n, e := range out.Entries {
		if e.ErrorCode != "" {
			return n, fmt.Errorf("put events: %d of %d entries are refused, the first one with %s", out.FailedEntryCount, len(list), e.ErrorCode)
		}
	}
	return len(list), nil
}
