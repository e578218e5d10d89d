package sqsqueue

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// redriveRounds bounds one redrive: a thousand messages, which fit into the time that a
// gateway waits.
const redriveRounds = 100

// redriveHidden is how long a message that stays among the dead letters is out of sight, s:
// longer than one redrive takes, so that none is received twice in it.
const redriveHidden = 60

// Redrive sends records from the queue of dead letters with that URL to this queue again, at
// most a thousand. What cannot be read or sent stays where it is and is counted as kept.
// Nothing is lost on the way: a record is deleted after it was sent. It may come twice.
func (q *Rescue) Redrive(ctx context.Context, deadLetters string) (moved, kept int, err error) {
	return redrive(ctx, q.client, deadLetters, func(body string) error {
		id, payload, err := ParseRescue(body)
		if err != nil {
			return err
		}
		return q.Put(ctx, id, payload)
	})
}

// Redrive is as that of Rescue.
func (q *Chunks) Redrive(ctx context.Context, deadLetters string) (moved, kept int, err error) {
	return redrive(ctx, q.client, deadLetters, func(body string) error {
		c, err := ParseChunk(body)
		if err != nil {
			return err
		}
		return q.Put(ctx, c.Integration, c.Minute, c.IDs)
	})
}

func redrive(ctx context.Context, client *sqs.Client, from string, put func(body string) error) (moved, kept int, err error) {
	for range redriveRounds {
		got, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &from, MaxNumberOfMessages: 10, VisibilityTimeout: redriveHidden,
			WaitTimeSeconds: 1, // without it SQS asks only some of its servers, and an empty answer means little
		})
		if err != nil {
			return moved, kept, fmt.Errorf("dead letters: %w", err)
		}
		if len(got.Messages) == 0 {
			break
		}
		for _, m := range got.Messages {
			if put(aws.ToString(m.Body)) != nil {
				kept++
				continue
			}
			moved++
			if _, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &from, ReceiptHandle: m.ReceiptHandle}); err != nil {
				return moved, kept, fmt.Errorf("dead letters: %w", err)
			}
		}
	}
	return moved, kept, nil
}
