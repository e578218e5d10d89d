package sqsqueue_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// Dead letters are on their queue again, as they were; what is no message of ours stays.
func TestDeadLettersAreSentAnew(t *testing.T) {
	const dead, alive = "https://sqs.example/1/dead", "https://sqs.example/1/chunks"
	sim, client := queues(t)
	var want []string
	for n := range 25 {
		body := fmt.Sprintf(`{"integration":"askfred","minute":29555703,"ids":["conn_%d"]}`, n)
		if n == 7 || n == 19 {
			sim.Deliver(dead, fmt.Sprintf("poison %d", n))
			continue
		}
		want = append(want, body)
		sim.Deliver(dead, body)
	}
	got, err := sqsqueue.NewChunks(client, alive).Redrive(t.Context(), dead)
	if err != nil || got != (sqsqueue.Redriven{Replayed: 23, Pending: 2}) || !slices.Equal(sim.Sent(alive), want) {
		t.Errorf("%+v, %v, sent %v", got, err, sim.Sent(alive))
	}
	if left := sim.Waiting(dead); !slices.Equal(left, []string{"poison 7", "poison 19"}) {
		t.Errorf("left: %v", left)
	}
	sim.Refuse("AmazonSQS.ReceiveMessage", "QueueDoesNotExist")
	if _, err := sqsqueue.NewChunks(client, alive).Redrive(t.Context(), dead); err == nil {
		t.Error("a queue that is not there is no error")
	}
}

// A record that cannot be sent now is not taken off the dead letters.
func TestDeadLettersStayWhereTheyCannotBeSent(t *testing.T) {
	const dead = "https://sqs.example/1/dead"
	sim, q := queue(t)
	sim.Deliver(dead, `{"id":"conn_1","record":"eA=="}`)
	sim.Refuse("AmazonSQS.SendMessage", "QueueDoesNotExist")
	if got, err := q.Redrive(t.Context(), dead); err != nil || got.Pending != 1 || len(sim.Waiting(dead)) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
