package sqsqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/internal/awsjson"
)

const (
	// redriveTime is how long one redrive takes messages off a queue: a gateway waits for it.
	redriveTime = 12 * time.Second
	// redriveHidden is how long a message that stays among the dead letters is out of sight,
	// s: longer than one redrive takes, so that none is received twice in it.
	redriveHidden = 60
)

// Redriven is what became of dead letters.
type Redriven struct {
	Replayed int  `json:"replayed"` // on their way to the refresh function again
	Pending  int  `json:"pending"`  // could not be read or sent, and stay
	More     bool `json:"more"`     // the time was over before the queue was empty
}

// Redrive sends records from the queue of dead letters with that URL to this queue again,
// until there are none or its time is over. What cannot be read or sent stays where it is.
// Nothing is lost on the way: a record is deleted after it was sent. It may come twice.
func (q *Rescue) Redrive(ctx context.Context, deadLetters string) (Redriven, error) {
	return redrive(ctx, q.client, deadLetters, func(body string) error {
		id, payload, err := ParseRescue(body)
		if err != nil {
			return err
		}
		return q.Put(ctx, id, payload)
	})
}

// Redrive is as that of Rescue.
func (q *Chunks) Redrive(ctx context.Context, deadLetters string) (Redriven, error) {
	return redrive(ctx, q.client, deadLetters, func(body string) error {
		c, err := ParseChunk(body)
		if err != nil {
			return err
		}
		return q.Put(ctx, c.Integration, c.Minute, c.IDs)
	})
}

// receive and remove are the inputs of ReceiveMessage and DeleteMessage.
type receive struct {
	QueueURL string `json:"QueueUrl"`
	Most     int    `json:"MaxNumberOfMessages"`
	Hidden   int    `json:"VisibilityTimeout"`
	// Wait is in seconds. Without it SQS asks only some of its servers, and an empty
	// answer means little.
	Wait int `json:"WaitTimeSeconds"`
}

type remove struct {
	QueueURL string `json:"QueueUrl"`
	Handle   string `json:"ReceiptHandle"`
}

func redrive(ctx context.Context, client *awsjson.Client, from string, put func(body string) error) (out Redriven, err error) {
	for end := time.Now().Add(redriveTime); time.Now().Before(end); {
		var got struct {
			Messages []struct{ Body, ReceiptHandle string }
		}
		if err := client.Do(ctx, "ReceiveMessage", receive{from, 10, redriveHidden, 1}, &got); err != nil {
			return out, fmt.Errorf("dead letters: %w", err)
		}
		if len(got.Messages) == 0 {
			return out, nil
		}
		for _, m := range got.Messages {
			if put(m.Body) != nil {
				out.Pending++
				continue
			}
			out.Replayed++
			if err := client.Do(ctx, "DeleteMessage", remove{from, m.ReceiptHandle}, nil); err != nil {
				return out, fmt.Errorf("dead letters: %w", err)
			}
		}
	}
	out.More = true
	return out, nil
}
