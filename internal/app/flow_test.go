package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/app/refresh"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
)

// TestWholeLifeThroughTheFunctions takes one connection through all four functions.
// Each call meets a function that starts cold: nothing that they need of each other is
// in memory.
func TestWholeLifeThroughTheFunctions(t *testing.T) {
	for name, deploy := range map[string]func(*testing.T) *deployment{"bbolt": onBolt, "dynamodb": onDynamoDB} {
		t.Run(name, func(t *testing.T) { wholeLife(t, deploy(t)) })
	}
}

func wholeLife(t *testing.T, d *deployment) {
	session, back := d.connect("askfred", "tenant-7")
	confirm := `{"confirm":"` + back.Get("evergrant_confirm") + `","owner":"tenant-7"}`
	made := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", confirm)
	id := made["id"].(string)
	if made["status"] != "active" || made["generation"] != 1.0 {
		t.Errorf("connected: %v", made)
	}
	first := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if info, ok := d.sim.Lookup("askfred", first["access_token"].(string)); !ok || !info.Live || info.User != "alice" {
		t.Errorf("the token handed out: %+v", info)
	}

	d.tick()
	if again := d.call(200, "GET", "/v1/connections/"+id+"/token", ""); again["token_id"] != first["token_id"] {
		t.Error("a tick right after the connect refreshed it")
	}
	due, err := time.Parse(time.RFC3339, d.call(200, "GET", "/v1/connections/"+id, "")["next_refresh_at"].(string))
	if err != nil {
		t.Fatal(err)
	}
	d.now.Set(due.Add(2 * time.Second))
	d.tick()
	second := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if second["generation"] != 2.0 || second["token_id"] == first["token_id"] || second["access_token"] == first["access_token"] {
		t.Errorf("after the slot: generation %v\n%s", second["generation"], d.log)
	}
	if n := d.sim.Requests("askfred")["refresh_token"]; n != 1 {
		t.Errorf("%d refreshes were sent", n)
	}

	d.now.Set(due.Add(30 * time.Second))
	third := d.call(200, "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":2}`)
	if third["generation"] != 3.0 {
		t.Errorf("compare-and-refresh: %v", third["generation"])
	}
	d.call(200, "DELETE", "/v1/connections/"+id, "")
	d.call(410, "GET", "/v1/connections/"+id+"/token", "")
	for _, token := range []map[string]any{first, second, third} {
		if info, _ := d.sim.Lookup("askfred", token["access_token"].(string)); info.Live {
			t.Error("a token outlives the disconnect")
		}
		d.notLogged(token["access_token"].(string))
	}
	d.notLogged(brokertest.ClientSecret, apiKey, session, back.Get("evergrant_confirm"), "CANARY")
	d.wantPut(id, "connection.created", "connection.disconnected")
}

// wantPut wants these events of a connection on the bus, without a token in them.
func (d *deployment) wantPut(id string, want ...string) {
	d.t.Helper()
	var got []string
	for _, e := range d.aws.Put() {
		if strings.Contains(e.Detail, `"connection_id":"`+id+`"`) && e.Source == "evergrant" && e.EventBusName == "evergrant" {
			got = append(got, e.DetailType)
		}
		if strings.Contains(e.Detail, "token") {
			d.t.Error(e.Detail)
		}
	}
	if !slices.Equal(got, want) {
		d.t.Errorf("on the bus are %q, want %q", got, want)
	}
}

// The function that wrote an event ends before the bus has it: the next tick puts it.
func TestTickPutsWhatTheBusDidNotTake(t *testing.T) {
	d := onBolt(t)
	d.aws.Refuse("AWSEvents.PutEvents", "InternalException")
	_, back := d.connect("redbooth", "tenant-7")
	id := back.Get("evergrant_connection")
	d.wantPut(id)
	d.now.Advance(2 * time.Minute)
	d.tick()
	d.wantPut(id)
	d.aws.Refuse("AWSEvents.PutEvents", "")
	d.now.Advance(2 * time.Minute)
	d.tick()
	d.wantPut(id, "connection.created")
}

func (d *deployment) notLogged(secrets ...string) {
	d.t.Helper()
	for _, s := range secrets {
		if strings.Contains(d.log.String(), s) {
			d.t.Errorf("the log holds %.12s…", s)
		}
	}
}

// TestFirstTickAndFullHourFitIntoAnInvocation: a tick of a fresh deployment looks at
// everything, one of a full hour into thousands of partitions.
func TestFirstTickAndFullHourFitIntoAnInvocation(t *testing.T) {
	d := onDynamoDB(t)
	session, back := d.connect("askfred", "tenant-7")
	id := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)["id"].(string)
	d.now.Advance(8 * 24 * time.Hour) // the token has run out
	for _, tick := range []string{"2026-03-20T19:58:00Z", "2026-03-20T20:01:00Z"} {
		if _, err := d.wake(`{"tick":"` + tick + `"}`); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.call(200, "GET", "/v1/connections/"+id, ""); got["generation"] != 2.0 {
		t.Errorf("generation %v", got["generation"])
	}
}

func TestCookieModeConnectsInTheCallback(t *testing.T) {
	d := onBolt(t)
	_, back := d.connect("redbooth", "tenant-7")
	id := back.Get("evergrant_connection")
	if got := d.call(200, "GET", "/v1/connections/"+id, ""); got["status"] != "active" {
		t.Errorf("connected: %v", got["status"])
	}
	d.wantPut(id, "connection.created") // by the callback
	d.notLogged(brokertest.ClientSecret)
}

func TestOpeningALinkNeedsNeitherSecretsNorQueues(t *testing.T) {
	d := onBolt(t)
	d.connect("askfred", "tenant-7")
	for _, call := range d.aws.Calls() {
		if !strings.HasPrefix(call, "TrentService.") {
			t.Errorf("opening a link and coming back asked for %s", call)
		}
	}
}

// TestRescuedTokensComeBack: the table fails right after the provider has rotated the
// refresh token; the queue keeps the new one, and later delivers it.
func TestRescuedTokensComeBack(t *testing.T) {
	d := onBolt(t)
	session, back := d.connect("askfred", "tenant-7")
	made := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)
	id := made["id"].(string)

	away := errors.New("the table is away")
	down := true
	d.parts.Store.Connections = &flakyTable{Table: d.parts.Store.Connections, fail: func(key string) error {
		if !down || key != id || d.sim.Requests("askfred")["refresh_token"] == 0 {
			return nil
		}
		d.now.Advance(5 * time.Second) // a failing call takes its time
		return away
	}}
	d.call(409, "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":1}`)
	sent := d.aws.Sent(rescueQueue)
	if len(sent) != 1 {
		t.Fatalf("%d rescue records\n%s", len(sent), d.log)
	}
	batch := batchOf(t, "evergrant-RescueQueue", sent[0], `{"id":"`+id+`"}`)
	if got, err := d.wake(batch); err != nil || got != `{"batchItemFailures":[{"itemIdentifier":"m0"},{"itemIdentifier":"m1"}]}` {
		t.Errorf("while the table is away: %s, %v", got, err)
	}
	d.givenUp("rescue-replay", rescueQueue, 1, 1, sent[0], `{"id":"`+id+`"}`)
	if sent := d.aws.Sent(rescueQueue); len(sent) != 2 || sent[1] != sent[0] {
		t.Errorf("%d records once it was sent anew", len(sent))
	}
	down = false
	if got, err := d.wake(batch); err != nil || got != `{"batchItemFailures":[{"itemIdentifier":"m1"}]}` {
		t.Errorf("once it is back: %s, %v", got, err)
	}
	token := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if info, _ := d.sim.Lookup("askfred", token["access_token"].(string)); token["generation"] != 2.0 || !info.Live {
		t.Errorf("after the rescue: generation %v, live %v", token["generation"], info.Live)
	}
	d.notLogged(token["access_token"].(string), "CANARY")
}

// givenUp puts messages among the dead letters of a queue and has an operator replay them.
func (d *deployment) givenUp(command, queue string, replayed, pending float64, bodies ...string) {
	d.t.Helper()
	for _, body := range bodies {
		d.aws.Deliver(queue+"-dead", body)
	}
	if got := d.callAs(operatorKey, 200, "POST", "/v1/admin/"+command, ""); got["replayed"] != replayed || got["pending"] != pending || got["more"] != false {
		d.t.Errorf("%s: %v\n%s", command, got, d.log)
	}
}

// TestChunksThatWereGivenUpAreReplayed: they are on their queue again, as they were; what
// is no chunk stays among the dead letters.
func TestChunksThatWereGivenUpAreReplayed(t *testing.T) {
	d := onBolt(t)
	const good = `{"integration":"askfred","minute":29555703,"ids":["conn_1","conn_2"]}`
	d.givenUp("chunk-replay", chunkQueue, 1, 1, good, "poison")
	if sent, groups := d.aws.Sent(chunkQueue), d.aws.Groups(chunkQueue); !slices.Equal(sent, []string{good}) || !slices.Equal(groups, []string{"askfred"}) {
		t.Errorf("%v of %v", sent, groups)
	}
	d.aws.Refuse("AmazonSQS.SendMessage", "InternalFailure")
	d.givenUp("chunk-replay", chunkQueue, 0, 1, good)
	if left := d.aws.Waiting(chunkQueue + "-dead"); !slices.Equal(left, []string{"poison", good}) {
		t.Errorf("left: %v", left)
	}
	d.aws.Refuse("AmazonSQS.ReceiveMessage", "AccessDeniedException")
	d.callAs(operatorKey, 500, "POST", "/v1/admin/chunk-replay", "")
}

// batchOf is Lambda's event for messages of a queue, with ids m0, m1, ….
func batchOf(t *testing.T, queue string, bodies ...string) string {
	t.Helper()
	var records []map[string]any
	for n, body := range bodies {
		records = append(records, map[string]any{
			"messageId": "m" + string(rune('0'+n)), "body": body, "eventSource": "aws:sqs",
			"eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:" + queue,
			"attributes":     map[string]string{"SentTimestamp": "1773342238390"},
		})
	}
	b, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestChunkRefreshesWhatIsDueAndNothingElse(t *testing.T) {
	d := onBolt(t)
	session, back := d.connect("askfred", "tenant-7")
	id := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)["id"].(string)
	chunk := batchOf(t, "evergrant-ChunkQueue", `{"ids":["`+id+`","conn_gone"]}`)
	for step, want := range []int{0, 1, 1} {
		if step == 1 { // the token lives seven days
			d.now.Advance(8 * 24 * time.Hour)
		}
		if got, err := d.wake(chunk); err != nil || got != `{"batchItemFailures":[]}` {
			t.Errorf("step %d: %s, %v\n%s", step, got, err, d.log)
		}
		if n := d.sim.Requests("askfred")["refresh_token"]; n != want {
			t.Errorf("step %d: %d refreshes, want %d", step, n, want)
		}
	}
	d.aws.Refuse("AmazonSSM.GetParameters", "InternalServerError")
	d.now.Advance(8 * 24 * time.Hour)
	if got, err := d.wake(chunk); err != nil || got != `{"batchItemFailures":[{"itemIdentifier":"m0"}]}` {
		t.Errorf("what could not begin: %s, %v", got, err)
	}
}

// TestTickHandsOnWhatItHasNoTimeFor: an invocation that is nearly over when it starts
// puts everything that is due onto the queue, and the function takes it from there, once
// however often it is delivered.
func TestTickHandsOnWhatItHasNoTimeFor(t *testing.T) {
	d := onBolt(t)
	var ids []string
	for _, integration := range []string{"askfred", "redbooth"} {
		session, back := d.connect(integration, "tenant-7")
		if integration == "redbooth" { // in cookie mode
			ids = append(ids, back.Get("evergrant_connection"))
			continue
		}
		made := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)
		ids = append(ids, made["id"].(string))
	}
	d.tick()
	d.now.Advance(8 * 24 * time.Hour) // the tokens have run out
	tick := `{"tick":"` + d.now.Now().UTC().Format(time.RFC3339) + `"}`
	hurried := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := refresh.New(d.parts).Invoke(ctx, []byte(tick))
		return err
	}
	before, _ := d.parts.Store.Progress(t.Context())
	d.aws.Refuse("AmazonSQS.SendMessage", "InternalFailure")
	if err := hurried(); err == nil {
		t.Error("a tick whose chunks went nowhere succeeds")
	}
	if p, _ := d.parts.Store.Progress(t.Context()); p.Minute != before.Minute {
		t.Error("the cursor moved")
	}
	d.aws.Refuse("AmazonSQS.SendMessage", "")
	earlier := len(d.aws.Sent(chunkQueue))
	if err := hurried(); err != nil {
		t.Fatal(err)
	}
	if p, _ := d.parts.Store.Progress(t.Context()); p.Minute != d.now.Minute() {
		t.Errorf("the cursor stands at %d", p.Minute)
	}
	chunks, groups := d.aws.Sent(chunkQueue)[earlier:], d.aws.Groups(chunkQueue)[earlier:]
	slices.Sort(groups)
	if !slices.Equal(groups, []string{"askfred", "redbooth"}) || d.sim.Requests("askfred")["refresh_token"] != 0 {
		t.Fatalf("%d chunks of %v", len(chunks), groups)
	}
	slices.Reverse(chunks)
	for range 2 {
		if got, err := d.wake(batchOf(t, "evergrant-ChunkQueue", append(chunks, "poison")...)); err != nil || got != `{"batchItemFailures":[{"itemIdentifier":"m2"}]}` {
			t.Errorf("%s, %v", got, err)
		}
	}
	for n, integration := range []string{"askfred", "redbooth"} {
		if got := d.call(200, "GET", "/v1/connections/"+ids[n], ""); got["generation"] != 2.0 || d.sim.Requests(integration)["refresh_token"] != 1 {
			t.Errorf("%s: generation %v, %d requests\n%s", integration, got["generation"], d.sim.Requests(integration)["refresh_token"], d.log)
		}
	}
}

func TestEventsThatAreNotOursFail(t *testing.T) {
	d := onBolt(t)
	for _, event := range []string{
		"", "null", "[]", "{}", `"tick"`, `{"Records":[]}`, `{"tick":"yesterday"}`, `{"tick":"2026-03-12T19:03:00Z","Records":[{"messageId":"m0"}]}`,
		`{"version":"2.0","rawPath":"/"}`,
	} {
		if got, err := d.wake(event); err == nil {
			t.Errorf("%s is answered %s", event, got)
		}
	}
	for _, queue := range []string{"other", "", "evergrant-RescueQueue"} {
		if got, err := d.wake(batchOf(t, queue, `{"ids":["conn_1"]}`)); err != nil || !strings.Contains(got, "m0") {
			t.Errorf("a chunk by way of %q is answered %s, %v", queue, got, err)
		}
	}
}

// TestMissingSecretIsNamed: the parameter is missing, so the integration that needs it
// is not served; the log tells which parameter it is.
func TestMissingSecretIsNamed(t *testing.T) {
	d := onBolt(t)
	d.aws.Refuse("AmazonSSM.GetParameters", "AccessDeniedException")
	session, back := d.connect("askfred", "tenant-7")
	d.call(503, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)
	if !strings.Contains(d.log.String(), "${ssm:/evergrant/askfred}") {
		t.Errorf("the log does not name the parameter:\n%s", d.log)
	}
	d.tick() // goes on for the others
	d.connect("redbooth", "tenant-7")
	d.notLogged("CANARY")
	if !slices.Contains(d.aws.Calls(), "secretsmanager.GetSecretValue") {
		t.Error("the other integration was not served")
	}
}
