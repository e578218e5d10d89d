// Package sqsqueue provides the two queues of a deployment on AWS: the rescue queue,
// which keeps new tokens that the table would not take, and the chunk queue, which
// carries ids of connections that fell due.
//
// No message is trusted. A chunk holds ids only, and each connection is read again
// before anything is done; what a rescue record holds was sealed for its place before
// it was sent. A message with anything else in it is refused, and so ends among the
// dead letters.
package sqsqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/evergrant/evergrant/internal/awsjson"
)

// Rescue is the sending side of the rescue queue, as refresh.Rescuer asks for it. It
// may be used concurrently.
type Rescue struct {
	client *awsjson.Client
	url    string
}

// NewRescue returns the queue with that URL.
func NewRescue(client *awsjson.Client, url string) *Rescue {
	return &Rescue{client: client, url: url}
}

// message is the input of SendMessage.
type message struct {
	QueueURL string `json:"QueueUrl"`
	Body     string `json:"MessageBody"`
	Group    string `json:"MessageGroupId,omitempty"`
}

// rescueMessage is the body of a message of the rescue queue.
type rescueMessage struct {
	ID     string `json:"id"`
	Record []byte `json:"record"` // base64 in JSON
}

// Put sends the payload, which must be sealed already. When it returns without an
// error, the payload is delivered at least once, until somebody deletes it.
func (q *Rescue) Put(ctx context.Context, id string, payload []byte) error {
	body, err := json.Marshal(rescueMessage{ID: id, Record: payload})
	if err != nil {
		return err
	}
	if err := q.client.Do(ctx, "SendMessage", message{QueueURL: q.url, Body: string(body)}, nil); err != nil {
		return fmt.Errorf("rescue of %s: %w", id, err)
	}
	return nil
}

// Holds is always false: nobody can look into a queue. The horizon, during which no
// refusal in doubt is final, is longer than the queue takes to deliver instead.
func (q *Rescue) Holds(string) bool { return false }

// ParseRescue reads a message of the rescue queue.
func ParseRescue(body string) (id string, payload []byte, err error) {
	var m rescueMessage
	if err := parse(body, &m); err != nil {
		return "", nil, err
	}
	if !connectionID(m.ID) || len(m.Record) == 0 {
		return "", nil, errors.New("a rescue record needs a connection's id and the record")
	}
	return m.ID, m.Record, nil
}

// ChunkSize is how many ids a chunk has at most.
const ChunkSize = 100

// Chunk is the body of a message of the chunk queue: connections that fell due.
type Chunk struct {
	Integration string   `json:"integration,omitempty"` // of all of them
	Minute      int64    `json:"minute,omitempty"`      // the oldest at which one fell due, in unix minutes; 0 unknown
	IDs         []string `json:"ids"`
}

// Chunks is the sending side of the chunk queue. It may be used concurrently.
type Chunks struct {
	client *awsjson.Client
	url    string
}

// NewChunks returns the queue with that URL.
func NewChunks(client *awsjson.Client, url string) *Chunks { return &Chunks{client: client, url: url} }

// Put sends one chunk of an integration. When it returns without an error, the chunk is
// delivered at least once, perhaps late and perhaps out of order. The integration is the
// message group, by which the queue serves a small integration although a large one has
// sent thousands of chunks before it.
func (q *Chunks) Put(ctx context.Context, integration string, minute int64, ids []string) error {
	body, err := json.Marshal(Chunk{Integration: integration, Minute: minute, IDs: ids})
	if err != nil {
		return err
	}
	group := cmp.Or(integration, "none")
	if err := q.client.Do(ctx, "SendMessage", message{QueueURL: q.url, Body: string(body), Group: group}, nil); err != nil {
		return fmt.Errorf("chunk of %s: %w", group, err)
	}
	return nil
}

// ParseChunk reads a message of the chunk queue.
func ParseChunk(body string) (Chunk, error) {
	var c Chunk
	if err := parse(body, &c); err != nil {
		return Chunk{}, err
	}
	if len(c.IDs) == 0 || len(c.IDs) > ChunkSize || c.Minute < 0 {
		return Chunk{}, fmt.Errorf("a chunk has 1 to %d ids and a minute", ChunkSize)
	}
	for _, id := range c.IDs {
		if !connectionID(id) {
			return Chunk{}, errors.New("a chunk holds ids of connections only")
		}
	}
	return c, nil
}

// connectionID keeps a message from naming any other row of the table.
func connectionID(id string) bool { return strings.HasPrefix(id, "conn_") && len(id) <= 64 }

// parse reads one JSON value without unknown fields. Its errors quote nothing of the
// message.
func parse(body string, into any) error {
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("the message is not of the expected form")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the message goes on after its JSON value")
	}
	return nil
}
