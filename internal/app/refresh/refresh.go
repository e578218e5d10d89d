// Package refresh provides the function that the schedule and the queues wake.
package refresh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/eventbus"
	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// Handler takes the function's three kinds of event: the schedule's tick, and batches
// of either queue.
type Handler struct {
	parts  app.Parts
	broker *broker.Broker
	notYet error // why the function cannot work, nil where it can
}

// FromEnvironment is the handler with parts from the environment. Where these are not
// complete, every invocation fails by what is missing: that is what alarms watch.
func FromEnvironment() *Handler {
	parts, err := app.FromEnvironment(app.NewLog())
	if err != nil {
		return &Handler{notYet: fmt.Errorf("not set up: %w", err)}
	}
	return New(parts)
}

// New returns the handler made of the parts.
func New(p app.Parts) *Handler {
	p.IDTokens = idtoken.By
	p.Events = eventbus.New(awsjson.New(p.AWS(app.EventBridge), awsjson.EventBridge()), p.Env.EventBus)
	secrets := awssecrets.New(awsjson.New(p.AWS(app.SSM), awsjson.SSM()), awsjson.New(p.AWS(app.SecretsManager), awsjson.SecretsManager()))
	queues := awsjson.New(p.AWS(app.SQS), awsjson.SQS())
	rescue, chunks := sqsqueue.NewRescue(queues, p.Env.RescueQueue), sqsqueue.NewChunks(queues, p.Env.ChunkQueue)
	return &Handler{parts: p, broker: p.Scheduler(secrets, rescue, chunks.Put)}
}

// event is any of the events; which one shows by what it has.
type event struct {
	Tick    string   `json:"tick"` // RFC 3339: the minute that the schedule means
	Records []record `json:"Records"`
}

// record is one message of a queue, as Lambda hands it over.
type record struct {
	MessageID  string `json:"messageId"`
	Body       string `json:"body"`
	Source     string `json:"eventSourceARN"`
	Attributes struct {
		SentTimestamp string `json:"SentTimestamp"` // unix ms
	} `json:"attributes"`
}

// Invoke implements the Lambda runtime's Handler.
func (h *Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if h.notYet != nil {
		return nil, h.notYet
	}
	defer h.parts.FlushMetrics()
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, errors.New("the event is not of a known form")
	}
	switch {
	case e.Tick != "" && e.Records == nil:
		return []byte("null"), h.tick(ctx, e.Tick)
	case e.Tick == "" && len(e.Records) > 0:
		return h.batch(ctx, e.Records)
	}
	return nil, errors.New(`the event is neither {"tick": …} nor a batch of a queue`)
}

func (h *Handler) tick(ctx context.Context, scheduled string) error {
	at, err := time.Parse(time.RFC3339, scheduled)
	if err != nil {
		return errors.New("the tick's time is not RFC 3339")
	}
	rep, err := h.broker.Tick(ctx, at.Unix()/60)
	h.parts.Log.InfoContext(ctx, "tick", "minute", rep.Minute, "outcomes", rep.Outcomes, "chunked", rep.Chunked, "owed", rep.Owed, "todo", rep.Todo, "whole", rep.Whole)
	if err != nil {
		return fmt.Errorf("tick of %s: %w", scheduled, err)
	}
	return nil
}

// batchAnswer tells Lambda which messages to deliver again; it deletes the others.
type batchAnswer struct {
	Failures []failure `json:"batchItemFailures"`
}

type failure struct {
	ID string `json:"itemIdentifier"`
}

// batch handles each message by itself, so that one that cannot be done holds up no
// other.
func (h *Handler) batch(ctx context.Context, records []record) ([]byte, error) {
	answer := batchAnswer{Failures: []failure{}}
	for _, r := range records {
		if err := h.message(ctx, r); err != nil {
			h.parts.Log.WarnContext(ctx, "message", "queue", queueName(r.Source), "message_id", r.MessageID, "error", err.Error())
			answer.Failures = append(answer.Failures, failure{r.MessageID})
		}
	}
	return json.Marshal(answer)
}

// errKept says that a rescue record must stay in its queue.
var errKept = errors.New("not stored yet; the queue delivers it again")

func (h *Handler) message(ctx context.Context, r record) error {
	switch queueName(r.Source) {
	case queueOf(h.parts.Env.ChunkQueue):
		chunk, err := sqsqueue.ParseChunk(r.Body)
		if err != nil {
			return err
		}
		return h.broker.RefreshAll(ctx, chunk.IDs, cmp.Or(chunk.Minute, h.minute(r)))
	case queueOf(h.parts.Env.RescueQueue):
		id, payload, err := sqsqueue.ParseRescue(r.Body)
		if err != nil {
			return err
		}
		done, err := h.broker.ReplayRescue(ctx, id, payload)
		if err == nil && !done {
			err = errKept
		}
		return err
	}
	return errors.New("the message comes from another queue than ours")
}

// minute is when the chunk was sent, in unix minutes, for one that does not say which
// slot it means. However late the message comes, it is the slot of then.
func (h *Handler) minute(r record) int64 {
	if ms, err := strconv.ParseInt(r.Attributes.SentTimestamp, 10, 64); err == nil {
		return ms / 60_000
	}
	return h.parts.Now().Unix() / 60
}

// queueName is the last part of a queue's ARN.
func queueName(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }

// queueOf is the name of the queue with that URL, which is the last part of its path.
func queueOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return path.Base(u.Path)
}
