package dynamostore_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/item"
)

var rewrite = flag.Bool("rewrite", false, "write the golden requests anew")

// wire is a DynamoDB that notes its requests and gives the answers that it was told,
// the last one for ever.
type wire struct {
	answers  []answer
	requests []string // operation, and the body with sorted members
}

// answer is one response; status 0 is 200, and -1 cuts the connection instead.
type answer struct {
	status int
	body   string
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	w.requests = append(w.requests, operation+" "+sorted(body))
	a := answer{body: "{}"}
	if len(w.answers) > 0 {
		a = w.answers[min(len(w.requests), len(w.answers))-1]
	}
	if a.status < 0 {
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set("Content-Type", "application/x-amz-json-1.0")
	rw.WriteHeader(cmp.Or(a.status, http.StatusOK))
	_, _ = io.WriteString(rw, a.body)
}

// sorted is JSON with its members in order and indented.
func sorted(body []byte) string {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return b.String()
}

// connections is the table connections at w. The client tries each request twice.
func connections(t *testing.T, w *wire) *dynamostore.Store {
	t.Helper()
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	client := dynamodb.New(dynamodb.Options{
		BaseEndpoint: &srv.URL, Region: "eu-west-1", HTTPClient: srv.Client(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "key"}, nil
		}),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, time.Millisecond }),
	})
	return dynamostore.New(client, "evg-connections", item.ConnectionIndexes())
}

// TestRequests compares what is sent with testdata/requests.txtar, which shows a
// reader how each part of an update is said to DynamoDB.
func TestRequests(t *testing.T) {
	update := func(u item.Update) func(context.Context, *dynamostore.Store) error {
		return func(ctx context.Context, s *dynamostore.Store) error {
			_, err := s.Update(ctx, "conn_1", u)
			return err
		}
	}
	query := func(q item.Query) func(context.Context, *dynamostore.Store) error {
		return func(ctx context.Context, s *dynamostore.Store) error { _, err := s.Query(ctx, q); return err }
	}
	due := item.Query{Index: item.IndexDue, Hash: "50#7#0", Prefix: "askfred#", Limit: 100}
	todo := item.Query{Index: item.IndexTodo, Hash: "todo#9#0", Limit: 2}
	const golden = "testdata/requests.txtar"
	var got txtar.Archive
	for _, c := range []struct {
		name string
		call func(ctx context.Context, s *dynamostore.Store) error
	}{
		{"get", func(ctx context.Context, s *dynamostore.Store) error { _, err := s.Get(ctx, "conn_1"); return err }},
		{"claim", update(item.Update{
			If:  []item.Cond{item.Eq("gen", int64(4)), item.In("status", "active", "connecting"), item.Eq("attempt.id", "old")},
			Set: []item.Assign{item.Put("attempt", item.Map{"id": "new", "base_gen": int64(4)}), item.Keep("doubt_at", int64(100))},
		})},
		{"tombstone", update(item.Update{
			If: []item.Cond{item.Ne("status", "disconnected"), item.Lacks("attempt")},
			Set: []item.Assign{
				item.Put("status", "disconnected"), item.Plus("gen", "gen", 1), item.Plus("consent_seq", "consent_next", 1), item.Put("in_flight", true),
			},
			Remove: []string{"attempt", "sched"},
		})},
		{"consent", update(item.Update{
			If:  []item.Cond{item.Lt("consent_seq", int64(3)), item.Gt("expires_at", int64(0)), item.Has("rt")},
			Set: []item.Assign{item.Put("at", item.Bytes("\x00sealed")), item.Put("outbox", item.List{item.Map{"id": "e1"}})},
		})},
		{"create", update(item.Update{Target: item.Absent, Set: []item.Assign{item.Put("status", "held")}})},
		{"count", update(item.Update{Target: item.Any, Set: []item.Assign{item.Count("saved", 2)}})},
		{"touch", update(item.Update{Target: item.Any})},
		{"delete", func(ctx context.Context, s *dynamostore.Store) error {
			_, err := s.Delete(ctx, "conn_1", item.Eq("status", "disconnected"))
			return err
		}},
		{"query", query(due)},
		{"next page", func(ctx context.Context, s *dynamostore.Store) error {
			due := due
			due.After = due.Cursor("askfred#conn_7", "conn_7")
			return query(due)(ctx, s)
		}},
		{"next page by key", func(ctx context.Context, s *dynamostore.Store) error {
			todo := todo
			todo.After = todo.Cursor("conn_7", "conn_7")
			return query(todo)(ctx, s)
		}},
		{"scan", func(ctx context.Context, s *dynamostore.Store) error {
			_, err := s.Scan(ctx, item.Query{}.Cursor("conn_7"), 25)
			return err
		}},
	} {
		w := &wire{}
		if err := c.call(t.Context(), connections(t, w)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got.Files = append(got.Files, txtar.File{Name: c.name, Data: []byte(strings.Join(w.requests, ""))})
	}
	if *rewrite {
		if err := os.WriteFile(golden, txtar.Format(&got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(wanted), string(txtar.Format(&got))); diff != "" {
		t.Errorf("requests (-golden +sent):\n%s", diff)
	}
}

const conditionFailed = `"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "The conditional request failed"`

func TestAnswers(t *testing.T) {
	stored := item.Item{"gen": int64(5), "save_id": "mine"}
	const storedJSON = `{"pk": {"S": "conn_1"}, "gen": {"N": "5"}, "save_id": {"S": "mine"}, "foreign": {"SS": ["a"]}, "nothing": {"NULL": true}}`
	for _, c := range []struct {
		name     string
		answers  []answer
		want     item.Result
		err      error // errors.Is; nil is none
		requests int
	}{
		{"applied", []answer{{body: `{"Attributes": ` + storedJSON + `}`}}, item.Result{Applied: true, Item: stored}, nil, 1},
		{"refused", []answer{{400, `{` + conditionFailed + `, "Item": ` + storedJSON + `}`}}, item.Result{Item: stored}, nil, 1},
		{"refused, absent", []answer{{400, `{` + conditionFailed + `}`}}, item.Result{}, nil, 1},
		{"applied, answer lost, repeated", []answer{{status: -1}, {400, `{` + conditionFailed + `, "Item": ` + storedJSON + `}`}}, item.Result{Item: stored}, nil, 2},
		{"throttled once", []answer{
			{400, `{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"}`}, {body: `{"Attributes": ` + storedJSON + `}`},
		}, item.Result{Applied: true, Item: stored}, nil, 2},
		{"too large", []answer{{400, `{"__type": "com.amazon.coral.validate#ValidationException", "message": "Item size to update has exceeded the maximum allowed size"}`}}, item.Result{}, item.ErrTooLarge, 1},
		{"refused, unreadable", []answer{{400, `{` + conditionFailed + `, "Item": {"pk": {"S": "conn_1"}, "gen": {"N": "0.5"}}}`}}, item.Result{}, item.ErrCorrupt, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &wire{answers: c.answers}
			got, err := connections(t, w).Update(t.Context(), "conn_1", item.Update{Set: []item.Assign{item.Put("gen", int64(5))}})
			if !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if diff := gocmp.Diff(c.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if len(w.requests) != c.requests {
				t.Errorf("%d requests, want %d", len(w.requests), c.requests)
			}
		})
	}
}

// An error that leaves open whether the write was applied must not claim that it was not.
func TestAppliedWriteIsNeverSaidToBeCorrupt(t *testing.T) {
	w := &wire{answers: []answer{{body: `{"Attributes": {"pk": {"S": "conn_1"}, "gen": {"N": "1E+30"}}}`}}}
	_, err := connections(t, w).Update(t.Context(), "conn_1", item.Update{Set: []item.Assign{item.Put("status", "active")}})
	if err == nil || errors.Is(err, item.ErrCorrupt) || errors.Is(err, item.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	if _, err := connections(t, &wire{answers: []answer{{body: `{"Item": {"gen": {"N": "0.5"}}}`}}}).Get(t.Context(), "conn_1"); !errors.Is(err, item.ErrCorrupt) {
		t.Errorf("get: %v", err)
	}
}

func TestTooLargeValuesAreNotSent(t *testing.T) {
	w := &wire{}
	large := item.Bytes(strings.Repeat("x", item.MaxSize))
	if _, err := connections(t, w).Update(t.Context(), "conn_1", item.Update{Set: []item.Assign{item.Put("at", large)}}); !errors.Is(err, item.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	if len(w.requests) > 0 {
		t.Errorf("sent: %d requests", len(w.requests))
	}
}

func TestForgedCursorsAreNotSent(t *testing.T) {
	w := &wire{}
	s := connections(t, w)
	due := item.Query{Index: item.IndexDue, Hash: "50#7#0", Prefix: "askfred#", Limit: 1}
	todo := item.Query{Index: item.IndexTodo, Hash: "todo#9#0", Limit: 1}
	for _, c := range []struct {
		q     item.Query
		place []string
	}{
		{due, []string{"zoom#conn_1", "conn_1"}},
		{due, []string{"askfred#conn_1", ""}},
		{due, []string{"askfred#\xff", "conn_1"}},
		{due, []string{"askfred#" + strings.Repeat("x", item.MaxRange), "conn_1"}},
		{todo, []string{"conn_1", "conn_2"}},
	} {
		c.q.After = c.q.Cursor(c.place...)
		if _, err := s.Query(t.Context(), c.q); !errors.Is(err, item.ErrBadCursor) {
			t.Errorf("%.40q: %v", c.place, err)
		}
	}
	if _, err := s.Scan(t.Context(), item.Query{}.Cursor(""), 1); !errors.Is(err, item.ErrBadCursor) {
		t.Errorf("scan: %v", err)
	}
	if len(w.requests) > 0 {
		t.Errorf("sent: %v", w.requests)
	}
}
