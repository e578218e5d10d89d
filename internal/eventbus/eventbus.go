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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/wire"
)

// Source is that of every entry, for rules to ask for.
const Source = "evergrant"

// most is how many entries EventBridge takes in one request.
const most = 10

// Bus is one event bus. It may be used concurrently.
type Bus struct {
	client *eventbridge.Client
	name   string
}

var _ events.Sink = (*Bus)(nil)

// New returns the bus with that name or ARN.
func New(client *eventbridge.Client, name string) *Bus { return &Bus{client: client, name: name} }

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

func (b *Bus) put(ctx context.Context, list []wire.Event) (taken int, err error) {
	in := &eventbridge.PutEventsInput{}
	for _, e := range list {
		detail, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		in.Entries = append(in.Entries, types.PutEventsRequestEntry{
			EventBusName: &b.name, Source: aws.String(Source), DetailType: aws.String(e.Type), Detail: aws.String(string(detail)), Time: aws.Time(e.At),
		})
	}
	out, err := b.client.PutEvents(ctx, in)
	if err != nil {
		return 0, fmt.Errorf("put events: %w", err)
	}
	if len(out.Entries) != len(list) {
		return 0, fmt.Errorf("put events: %d results for %d entries", len(out.Entries), len(list))
	}
	for n, e := range out.Entries {
		if code := aws.ToString(e.ErrorCode); code != "" {
			return n, fmt.Errorf("put events: %d of %d entries are refused, the first one with %s", out.FailedEntryCount, len(list), code)
		}
	}
	return len(list), nil
}
