package sqsqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
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

func redrive(ctx context.Context, client *sqs.Client, from string, put func(body string) error) (out Redriven, err error) {
	for end := time.Now().Add(redriveTime); time.Now().Before(end); {
		got, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &from, MaxNumberOfMessages: 10, VisibilityTimeout: redriveHidden,
			WaitTimeSeconds: 1, // without it SQS asks only some of its servers, and an empty answer means little
		})
		if err != nil {
			return out, fmt.Errorf("dead letters: %w", err)
		}
		if len(got.Messages) == 0 {
			return out, nil
		}
		for _, m := range got.Messages {
			if put(aws.ToString(m.Body)) != nil {
				out.Pending++
				continue
			}
			out.Replayed++
			if _, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &from, ReceiptHandle: m.ReceiptHandle}); err != nil {
				return out, fmt.Errorf("dead letters: %w", err)
			}
		}
	}
	out.More = true
	return out, nil
}
