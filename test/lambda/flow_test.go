package lambda_test

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/doctor"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// flows are what the functions are for. Together they use everything that the roles grant.
var flows = map[string]func(*testing.T, *cloud){
	"life":        wholeLife,
	"public":      publicConnect,
	"cookies":     cookies,
	"first-tick":  firstTick,
	"operator":    operator,
	"pending":     pendingDisconnect,
	"chunks":      chunks,
	"poison":      poison,
	"rescue-tick": rescueOfTick,
	"rescue-call": rescueOfCall,
	"missing":     missing,
}

// TestFunctionsOnLambda runs every flow on a stack of its own, all at once, and then compares
// what the functions asked of AWS with what their roles grant.
func TestFunctionsOnLambda(t *testing.T) {
	c := startCloud(t)
	c.warm(t)
	putSecrets(t, c)
	var ran atomic.Int32
	t.Run("flows", func(t *testing.T) {
		for name, flow := range flows {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				flow(t, c)
				ran.Add(1)
			})
		}
	})
	t.Run("forbidden", func(t *testing.T) { forbidden(t, c) })
	if int(ran.Load()) == len(flows) {
		t.Run("granted and used", func(t *testing.T) { c.ledger.compare(t) })
	}
}

// wholeLife takes a connection from the link to the receipt.
func wholeLife(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	session, back := d.session("askfred", "tenant-7")
	confirm := `{"confirm":"` + back.Get("evergrant_confirm") + `","owner":"tenant-7"}`
	made := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", confirm)
	id := text(made, "id")
	if made["status"] != "active" || made["generation"] != 1.0 {
		t.Errorf("connected: %v", made)
	}
	first := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if info, ok := d.sim.Lookup("askfred", text(first, "access_token")); !ok || !info.Live || info.User != "alice" {
		t.Errorf("the token handed out: %+v", info)
	}
	d.tick(minute())
	if n := d.sim.Requests("askfred")["refresh_token"]; n != 0 {
		t.Errorf("%d refreshes right after the connect", n)
	}
	d.pass(tokenLife + time.Minute)
	d.tick(minute())
	second := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if second["generation"] != 2.0 || second["token_id"] == first["token_id"] || d.sim.Requests("askfred")["refresh_token"] != 1 {
		t.Errorf("after its slot: generation %v, %d refreshes", second["generation"], d.sim.Requests("askfred")["refresh_token"])
	}
	d.call(200, "DELETE", "/v1/connections/"+id, "")
	d.call(410, "GET", "/v1/connections/"+id+"/token", "")
	for _, token := range []map[string]any{first, second} {
		if info, _ := d.sim.Lookup("askfred", text(token, "access_token")); info.Live {
			t.Error("a token outlives the disconnect")
		}
	}
	if got, want := d.stack.told(), []string{id + " connection.created", id + " connection.disconnected"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	d.silent(text(first, "access_token"), text(second, "access_token"), session, back.Get("evergrant_confirm"))
}

// publicConnect begins with a link that no backend made: authorize is the first function of
// the deployment that seals anything.
func publicConnect(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	back := d.through("https://" + gatewayHost + "/authorize/redbooth?return_to=https%3A%2F%2Fapp.example.com%2Fback")
	made := d.call(200, "POST", "/v1/connect-sessions/"+back.Get("evergrant_session")+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)
	id := text(made, "id")
	token := "/iam/v1/connections/" + id + "/token"
	d.ask("GET", token, "", map[string]string{brokertest.ARNHeader: "arn:aws:sts::123456789012:assumed-role/backend/one"}).Want(t, 200, "access_token")
	d.ask("GET", token, "", map[string]string{"Authorization": "Bearer " + apiKey}).Want(t, 401, "unauthorized")
	d.silent(back.Get("evergrant_confirm"))
}

// cookies: the callback exchanges codes itself. The same account connected once more takes
// the older connection's place, which is left to the tick.
func cookies(t *testing.T, c *cloud) {
	d := deploy(t, c, cookieMode, map[string]string{"CookieMode": "true"})
	var ids []string
	for _, integration := range []string{"askfred", "redbooth", "", "redbooth"} {
		if integration == "" { // what is older is so by a second at least
			d.pass(time.Minute)
			continue
		}
		_, back := d.session(integration, "tenant-7")
		id := back.Get("evergrant_connection")
		if got := d.call(200, "GET", "/v1/connections/"+id, ""); got["status"] != "active" {
			t.Errorf("%s: %v", integration, got)
		}
		ids = append(ids, id)
	}
	reconnect := d.call(201, "POST", "/v1/connect-sessions", `{"integration":"askfred","owner":"tenant-7","connection_id":"`+ids[0]+`","return_to":"https://app.example.com/back"}`)
	if back := d.through(text(reconnect, "authorize_url")); back.Get("evergrant_connection") != ids[0] {
		t.Errorf("a reconnect leads to %v", back)
	}
	d.until(func() bool { return d.call(200, "GET", "/v1/connections/"+ids[1], "")["status"] == "disconnected" })
	want := []string{
		ids[0] + " connection.created", ids[1] + " connection.created", ids[2] + " connection.created",
		ids[0] + " connection.reconnected", ids[1] + " connection.disconnected",
	}
	if got := d.stack.told(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got := d.call(200, "GET", "/v1/connections/"+ids[2], ""); got["status"] != "active" {
		t.Errorf("the newer connection: %v", got)
	}
	d.silent()
}

// until wakes the schedule for one minute after another until what it owes is done.
func (d *deployment) until(done func() bool) {
	d.t.Helper()
	for ahead := range 20 {
		if done() {
			return
		}
		d.tick(time.Now().Add(time.Duration(ahead) * time.Minute))
	}
	d.t.Error("twenty minutes later it is still not done")
}

// firstTick: a tick is the first thing in the deployment that needs a data key, and the first
// of a day looks at everything.
func firstTick(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	// A look at a whole day is thousands of reads. DynamoDB answers them in two seconds;
	// DynamoDB Local, on a busy machine, not always in a minute.
	d.functions["RefreshFunction"] = d.start("RefreshFunction", func(c *runtimeapi.Config) { c.Timeout = 5 * time.Minute })
	d.tick(minute())
	id := d.connect("redbooth", "tenant-7")
	d.pass(tokenLife + time.Minute)
	d.tick(time.Now().UTC().Truncate(24 * time.Hour))
	if got := d.call(200, "GET", "/v1/connections/"+id+"/token", ""); got["generation"] != 2.0 {
		t.Errorf("generation %v", got["generation"])
	}
}

// operator is what the backend's lists and the operator's commands do.
func operator(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	id := d.connect("askfred", "tenant-7")
	for _, query := range []string{"owner=tenant-7", "integration=askfred"} {
		if got := d.call(200, "GET", "/v1/connections?"+query, ""); len(list(got, "items")) != 1 {
			t.Errorf("%s: %v", query, got)
		}
	}
	d.call(200, "GET", "/v1/integrations", "")
	d.call(200, "GET", "/v1/stats", "")
	d.call(200, "GET", "/healthz", "")
	d.call(200, "PATCH", "/v1/connections/"+id, `{"tags":{"plan":"gold"}}`)
	d.call(200, "POST", "/v1/admin/rotate-key", "")
	d.call(200, "POST", "/v1/admin/reseal", "")
	d.call(200, "GET", "/v1/admin/export", "")
	d.inspect()
	d.functions["ApiFunction"].Shutdown()
	if got := d.call(200, "GET", "/v1/connections/"+id+"/token", ""); got["generation"] != 1.0 {
		t.Errorf("a token that was sealed anew: %v", got["generation"])
	}
}

// inspect looks at the deployment as deploy-check does.
func (d *deployment) inspect() {
	d.t.Helper()
	if got := list(d.call(200, "GET", "/v1/admin/doctor", ""), "unreadable_secrets"); len(got) != 0 {
		d.t.Errorf("secrets that cannot be read: %v", got)
	}
	outside := &http.Client{Transport: d, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	all := doctor.Visitor{Client: outside, Now: time.Now}.Visit(d.t.Context(), "https://"+gatewayHost, []wire.Integration{
		{Name: "askfred", RedirectURI: "https://" + gatewayHost + "/callback/askfred"},
	})
	for _, f := range all {
		if f.Level == doctor.Problem || f.Level == doctor.Warning {
			d.t.Errorf("%s: %s", f.Check, f.Text)
		}
	}
	if doctor.Count(all, doctor.Fine) != 4 { // the server, two doors that are shut, the callback's page
		d.t.Errorf("looked at from outside: %v", all)
	}
}

// pendingDisconnect: the provider does not answer the revocation; the tick repeats it.
func pendingDisconnect(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	id := d.connect("askfred", "tenant-7")
	if err := d.sim.AddFault("askfred", simprovider.Fault{On: "revoke", Kind: "status", Count: 1000}); err != nil {
		t.Fatal(err)
	}
	if got := d.call(200, "DELETE", "/v1/connections/"+id, ""); got["revoked"] != "pending" {
		t.Errorf("while the provider is away: %v", got)
	}
	if err := d.sim.ClearFaults("askfred"); err != nil {
		t.Fatal(err)
	}
	d.until(func() bool { return d.call(200, "DELETE", "/v1/connections/"+id, "")["revoked"] == "at_provider" })
}

// chunks: a tick that is nearly out of time puts what is due onto the queue. Messages that
// come twice, at once and in another order do no harm.
func chunks(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	ids := map[string]string{"askfred": d.connect("askfred", "tenant-7"), "redbooth": d.connect("redbooth", "tenant-7")}
	d.tick(minute())
	d.pass(tokenLife + time.Minute)
	whole := d.functions["RefreshFunction"]
	d.functions["RefreshFunction"] = d.start("RefreshFunction", func(c *runtimeapi.Config) { c.Timeout = 20 * time.Second })
	d.tick(minute())
	d.functions["RefreshFunction"] = whole
	m := d.mapping("Chunk")
	messages := append(m.receive(), m.receive()...)
	if len(messages) != 2 || len(m.receive()) != 0 {
		t.Fatalf("%d chunks", len(messages))
	}
	m.overdue(messages)
	again := append(m.receive(), m.receive()...)
	slices.Reverse(again)
	var group sync.WaitGroup
	for _, one := range append(again, messages...) { // each twice, all at once
		group.Go(func() {
			if failed, err := m.deliver([]message{one}); err != nil || len(failed) != 0 {
				t.Errorf("%s fails: %v, %v", one.Body, failed, err)
			}
		})
	}
	group.Wait()
	for _, one := range again {
		if one.Attributes["MessageGroupId"] == "" {
			t.Errorf("no message group: %v", one.Attributes)
		}
		m.remove(one)
	}
	for integration, id := range ids {
		got := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
		n := d.sim.Requests(integration)["refresh_token"]
		// Redbooth's refresh tokens never change, so nobody claims: two at once may both send.
		if most := map[string]int{"askfred": 1, "redbooth": 2}[integration]; n < 1 || n > most || got["generation"] != float64(1+n) {
			t.Errorf("%s: generation %v, %d requests", integration, got["generation"], n)
		}
	}
	if n := d.waiting(t, "ChunkQueue") + d.waiting(t, "ChunkDeadLetters"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// poison: messages that nobody can carry out are tried as often as the queue says and end
// among the dead letters; what came with them is done, and what is sound can be sent anew.
func poison(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	id := d.connect("askfred", "tenant-7")
	d.pass(tokenLife + time.Minute)
	m := d.mapping("Chunk")
	bodies := []string{`poison`, `{"ids":["sys#cursor"]}`, `{"ids":["` + id + `"],"and":"more"}`}
	for _, body := range bodies {
		m.send(body)
	}
	m.send(`{"ids":["` + id + `"]}`)
	limit := number(nil, at(d.stack.template, "Resources", "ChunkQueue", "Properties", "RedrivePolicy"), "maxReceiveCount")
	received := 0
	for d.waiting(t, "ChunkQueue") > 0 && received < 100 {
		n, failed := m.poll()
		m.overdue(failed)
		received += n
	}
	if want := len(bodies)*limit + 1; received != want {
		t.Errorf("%d deliveries of %d messages that fail and one that does not, want %d", received, len(bodies), want)
	}
	if n := d.sim.Requests("askfred")["refresh_token"]; n != 1 {
		t.Errorf("%d refreshes", n)
	}
	if n := d.waiting(t, "ChunkDeadLetters"); n != len(bodies) {
		t.Errorf("%d dead letters", n)
	}

	// An operator sends anew what is sound. The poison stays where it is.
	dead := d.mapping("Chunk")
	dead.queue = "ChunkDeadLetters"
	dead.send(`{"integration":"askfred","minute":1,"ids":["` + id + `"]}`)
	dead.queue = "RescueDeadLetters"
	dead.send(`{"id":"` + id + `","record":"c2VhbGVk"}`)
	for command, stay := range map[string]int{"rescue-replay": 0, "chunk-replay": len(bodies)} {
		if got := d.call(200, "POST", "/v1/admin/"+command, ""); got["replayed"] != 1.0 || got["pending"] != float64(stay) || got["more"] != false {
			t.Errorf("%s: %v", command, got)
		}
	}
	for queue, want := range map[string]int{"ChunkDeadLetters": len(bodies), "RescueDeadLetters": 0, "ChunkQueue": 1, "RescueQueue": 1} {
		if n := d.waiting(t, queue); n != want {
			t.Errorf("afterwards %d messages in %s, want %d", n, queue, want)
		}
	}
	if received, failed := m.poll(); received != 1 || len(failed) != 0 {
		t.Errorf("of %d sent anew %d fail", received, len(failed))
	}
}

func rescueOfTick(t *testing.T, c *cloud) {
	rescue(t, c, func(d *deployment, _ string) {
		d.pass(tokenLife + time.Minute)
		d.tick(minute())
	})
}

func rescueOfCall(t *testing.T, c *cloud) {
	rescue(t, c, func(d *deployment, id string) {
		d.call(409, "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":1}`)
	})
}

// rescue: the table fails right after the provider has rotated the refresh token. The queue
// keeps the new one, and delivers it when the table is back; what came with it and cannot be
// read stays alone.
func rescue(t *testing.T, c *cloud, refresh func(*deployment, string)) {
	d := deploy(t, c, confirmMode, nil)
	id := d.connect("askfred", "tenant-7")
	d.tick(minute())
	d.proxy.failing(func(q request) bool {
		return q.action == "dynamodb:UpdateItem" && slices.Equal(q.context["dynamodb:LeadingKeys"], []string{id}) && d.sim.Requests("askfred")["refresh_token"] > 0
	})
	refresh(d, id)
	m := d.mapping("Rescue")
	m.send(`{"id":"` + id + `"}`)
	received, failed := m.poll()
	if received != 2 || len(failed) != 2 {
		t.Fatalf("while the table is away: %d of %d messages fail", len(failed), received)
	}
	d.proxy.failing(nil)
	m.overdue(failed)
	if received, failed = m.poll(); received != 2 || len(failed) != 1 || failed[0].Body != `{"id":"`+id+`"}` {
		t.Errorf("once it is back: %d of %d messages fail", len(failed), received)
	}
	token := d.call(200, "GET", "/v1/connections/"+id+"/token", "")
	if info, _ := d.sim.Lookup("askfred", text(token, "access_token")); token["generation"] != 2.0 || !info.Live {
		t.Errorf("after the rescue: generation %v, live %v", token["generation"], info.Live)
	}
	if n := d.sim.Requests("askfred")["refresh_token"]; n != 1 {
		t.Errorf("%d refreshes", n)
	}
	d.silent(text(token, "access_token"))
}
