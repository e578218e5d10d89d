package sqsqueue_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var _ refresh.Rescuer = (*sqsqueue.Rescue)(nil)

func queue(t *testing.T) (*awssim.Server, *sqsqueue.Rescue) {
	t.Helper()
	sim, client := queues(t)
	return sim, sqsqueue.NewRescue(client, "https://sqs.example/1/rescue")
}

func queues(t *testing.T) (*awssim.Server, *awsjson.Client) {
	t.Helper()
	sim := awssim.New()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return sim, awsjson.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}, awsjson.SQS())
}

func TestRescueArrivesAsItWasPut(t *testing.T) {
	sim, q := queue(t)
	payload := []byte("sealed \x00\xff")
	if err := q.Put(t.Context(), "conn_1", payload); err != nil {
		t.Fatal(err)
	}
	sent := sim.Sent("https://sqs.example/1/rescue")
	if len(sent) != 1 {
		t.Fatalf("%d messages", len(sent))
	}
	id, got, err := sqsqueue.ParseRescue(sent[0])
	if err != nil || id != "conn_1" || string(got) != string(payload) {
		t.Errorf("%q %q %v", id, got, err)
	}
	if q.Holds("conn_1") {
		t.Error("the queue claims to know what it holds")
	}
}

func TestRefusedRescueIsAnError(t *testing.T) {
	sim, q := queue(t)
	sim.Refuse("AmazonSQS.SendMessage", "QueueDoesNotExist")
	if err := q.Put(t.Context(), "conn_1", []byte("x")); err == nil || !strings.Contains(err.Error(), "conn_1") {
		t.Error(err)
	}
}

func TestChunk(t *testing.T) {
	got, err := sqsqueue.ParseChunk(`{"ids": ["conn_1", "conn_2"]}`)
	if diff := cmp.Diff(sqsqueue.Chunk{IDs: []string{"conn_1", "conn_2"}}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestChunkArrivesAsItWasPut(t *testing.T) {
	sim, client := queues(t)
	q := sqsqueue.NewChunks(client, "https://sqs.example/1/chunks")
	want := sqsqueue.Chunk{Integration: "askfred", Minute: 29555703, IDs: []string{"conn_1", "conn_2"}}
	if err := q.Put(t.Context(), want.Integration, want.Minute, want.IDs); err != nil {
		t.Fatal(err)
	}
	sent := sim.Sent("https://sqs.example/1/chunks")
	if len(sent) != 1 {
		t.Fatalf("%d messages", len(sent))
	}
	got, err := sqsqueue.ParseChunk(sent[0])
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if groups := sim.Groups("https://sqs.example/1/chunks"); len(groups) != 1 || groups[0] != "askfred" {
		t.Errorf("message groups %v", groups)
	}
	sim.Refuse("AmazonSQS.SendMessage", "QueueDoesNotExist")
	if err := q.Put(t.Context(), "askfred", 1, want.IDs); err == nil {
		t.Error("a refused chunk is no error")
	}
}

var (
	_ = mutant("T56", "internal/sqsqueue/sqsqueue.go", `	d.DisallowUnknownFields()
`, ``)
	_ = mutant("T56", "internal/sqsqueue/sqsqueue.go", `if !connectionID(id) {`, `if id == "" {`)
)

func TestThreat_T56_a_forged_message_is_refused(t *testing.T) {
	many := `{"ids": ["conn_1"` + strings.Repeat(`, "conn_1"`, sqsqueue.ChunkSize) + `]}`
	for _, body := range []string{
		"", "null", "[]", `"conn_1"`, "{", `{}`, `{"ids": []}`, `{"ids": ["sys#cursor"]}`, `{"ids": [""]}`, `{"ids": ["conn_1"]} {}`,
		`{"ids": ["conn_1"], "force": true}`, `{"ids": ["conn_` + strings.Repeat("x", 100) + `"]}`, many,
	} {
		if c, err := sqsqueue.ParseChunk(body); err == nil {
			t.Errorf("chunk %.40s gave %v", body, c)
		}
	}
	for _, body := range []string{
		"", "null", `{"id": "conn_1"}`, `{"id": "conn_1", "record": ""}`, `{"id": "sys#cursor", "record": "eA=="}`,
		`{"id": "conn_1", "record": "CANARY not base64"}`, `{"id": "conn_1", "record": "eA==", "gen": 1}`, `{"ids": ["conn_1"]}`,
	} {
		_, _, err := sqsqueue.ParseRescue(body)
		if err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("rescue record %.40s: %v", body, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{"ids": ["conn_1"]}`)
	f.Add(`{"id": "conn_1", "record": "eA=="}`)
	f.Fuzz(func(t *testing.T, body string) {
		if c, err := sqsqueue.ParseChunk(body); (err == nil) != (len(c.IDs) > 0) || len(c.IDs) > sqsqueue.ChunkSize {
			t.Errorf("%d ids, %v", len(c.IDs), err)
		}
		if id, payload, err := sqsqueue.ParseRescue(body); err == nil && (!strings.HasPrefix(id, "conn_") || len(payload) == 0) {
			t.Errorf("record of %q, %d bytes", id, len(payload))
		}
	})
}
