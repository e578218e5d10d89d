package lambda_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
)

// mapping is Lambda's event source mapping of a queue, as the template sets it up. It polls
// with the rights of the function's role, as Lambda does.
type mapping struct {
	d        *deployment
	queue    string // its name in the template
	batch    int
	function *runtimeapi.Function
}

func (d *deployment) mapping(event string) *mapping {
	d.t.Helper()
	p := at(d.stack.template, "Resources", "RefreshFunction", "Properties", "Events", event, "Properties")
	queue := fmt.Sprint(list(p, "Queue", "Fn::GetAtt")[0])
	if got := texts(p, "FunctionResponseTypes"); len(got) != 1 || got[0] != "ReportBatchItemFailures" {
		d.t.Fatalf("%s: a batch would fail or succeed as a whole", event)
	}
	m := &mapping{d, queue, number(nil, p, "BatchSize"), d.functions["RefreshFunction"]}
	m.sqs("GetQueueAttributes", map[string]any{"AttributeNames": []string{"VisibilityTimeout"}})
	return m
}

// sqs is a call of Lambda's, on the queue.
func (m *mapping) sqs(operation string, in map[string]any) map[string]any {
	m.d.t.Helper()
	in["QueueUrl"] = m.d.stack.ref(m.queue)
	status, out := try(m.d.t, m.d.proxy.at, accessKey("RefreshRole"), "sqs", operation, in)
	if status != http.StatusOK {
		m.d.t.Fatalf("%s on %s: %d, %v", operation, m.queue, status, out)
	}
	return out
}

// message is one as it was received.
type message struct {
	ID, Body, ReceiptHandle string
	Attributes              map[string]string
}

// receive takes at most a batch of what is visible now, out of sight.
func (m *mapping) receive() []message {
	m.d.t.Helper()
	got := m.sqs("ReceiveMessage", map[string]any{"MaxNumberOfMessages": m.batch, "AttributeNames": []string{"All"}})
	var out []message
	for _, v := range list(got, "Messages") {
		one := message{text(v, "MessageId"), text(v, "Body"), text(v, "ReceiptHandle"), map[string]string{}}
		if attributes, ok := at(v, "Attributes").(map[string]any); ok {
			for name, value := range attributes {
				one.Attributes[name] = fmt.Sprint(value)
			}
		}
		out = append(out, one)
	}
	return out
}

// deliver invokes the function with the messages and returns the ids of those that it wants
// again. It deletes nothing. The error is what the function failed by.
func (m *mapping) deliver(messages []message) ([]string, error) {
	m.d.t.Helper()
	records := []map[string]any{}
	for _, one := range messages {
		records = append(records, map[string]any{
			"messageId": one.ID, "receiptHandle": one.ReceiptHandle, "body": one.Body, "attributes": one.Attributes, "messageAttributes": map[string]any{},
			"eventSource": "aws:sqs", "eventSourceARN": m.d.stack.attribute(m.queue, "Arn"), "awsRegion": region,
		})
	}
	event, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		m.d.t.Fatal(err)
	}
	r, err := m.function.Invoke(m.d.t.Context(), event)
	if err != nil || r.Failed {
		return nil, errors.Join(err, errors.New(string(r.Payload)))
	}
	var told struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if err := json.Unmarshal(r.Payload, &told); err != nil {
		m.d.t.Fatalf("%s: %v", r.Payload, err)
	}
	var again []string
	for _, f := range told.BatchItemFailures {
		again = append(again, f.ItemIdentifier)
	}
	return again, nil
}

// poll receives once, delivers, and deletes what the function is done with. It returns how
// many messages it received, and those that failed: they stay in the queue, out of sight
// until the queue's visibility timeout has passed.
func (m *mapping) poll() (received int, failed []message) {
	m.d.t.Helper()
	messages := m.receive()
	if len(messages) == 0 {
		return 0, nil
	}
	again, err := m.deliver(messages)
	wanted := map[string]bool{}
	for _, id := range again {
		wanted[id] = true
	}
	for _, one := range messages {
		if err != nil || wanted[one.ID] {
			failed = append(failed, one)
		} else {
			m.remove(one)
		}
	}
	return len(messages), failed
}

func (m *mapping) remove(one message) {
	m.d.t.Helper()
	m.sqs("DeleteMessageBatch", map[string]any{"Entries": []map[string]string{{"Id": "1", "ReceiptHandle": one.ReceiptHandle}}})
}

// overdue makes messages visible again at once, in place of the 90 s after which the queue
// would do so.
func (m *mapping) overdue(messages []message) {
	m.d.t.Helper()
	for _, one := range messages {
		m.d.stack.cloud.call(m.d.t, "sqs", "ChangeMessageVisibility", map[string]any{
			"QueueUrl": m.d.stack.ref(m.queue), "ReceiptHandle": one.ReceiptHandle, "VisibilityTimeout": 0,
		})
	}
}

// send puts a message of a foreign hand into the queue, past all roles.
func (m *mapping) send(body string) {
	m.d.t.Helper()
	m.d.stack.cloud.call(m.d.t, "sqs", "SendMessage", map[string]any{"QueueUrl": m.d.stack.ref(m.queue), "MessageBody": body})
}

// waiting is how many messages are in a queue of the template, in sight or not.
func (d *deployment) waiting(t *testing.T, queue string) (n int) {
	t.Helper()
	names := []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"}
	got := d.stack.cloud.call(t, "sqs", "GetQueueAttributes", map[string]any{"QueueUrl": d.stack.ref(queue), "AttributeNames": names})
	for _, name := range names {
		var some int
		_, _ = fmt.Sscan(text(got, "Attributes", name), &some)
		n += some
	}
	return n
}
