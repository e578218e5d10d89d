package httpapi_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

// shownCode is the code of a last page.
var shownCode = regexp.MustCompile(`<code class="code">([BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4})</code>`)

// typing makes a session without a return address, takes a browser through it, and
// returns the session with the code that the last page shows.
func (w *world) typing(owner string) (session, link, code string) {
	w.T.Helper()
	m := w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"freeagent","owner":"`+owner+`"}`).Want(w.T, 201, "").JSON(w.T)
	session, link = m["id"].(string), m["authorize_url"].(string)
	return session, link, w.lastPage(link)
}

func (w *world) lastPage(link string) string {
	w.T.Helper()
	b := w.Browser()
	page := b.Open(w.ToCallback(b, link, "")).Want(w.T, 200, "One step left").Body
	found := shownCode.FindStringSubmatch(page)
	if found == nil {
		w.T.Fatalf("no code on the last page: %s", page)
	}
	return found[1]
}

func TestACodeOfTheLastPageConfirms(t *testing.T) {
	w := newWorld(t)
	session, _, code := w.typing("alice")
	typed := " " + strings.ToLower(strings.ReplaceAll(code, "-", " ")) + "\t"
	w.Confirm("all", session, strings.TrimSpace(typed), "alice").Want(t, 200, `"status":"active"`)
	w.Confirm("all", session, code, "alice").Want(t, 200, `"status":"active"`) // the same call repeated
	if _, err := w.Store.SpendCode(t.Context(), connection.Hash(code), connection.Hash(session), w.Unix()); err == nil {
		t.Error("the code alone is a key of the table")
	}
}

func TestACodeIsGoodInItsSessionAlone(t *testing.T) {
	w := newWorld(t)
	one, _, code := w.typing("alice")
	other, _, otherCode := w.typing("alice")
	w.Confirm("all", other, code, "alice").Want(t, 400, "4 tries are left")
	w.Confirm("connect", one, code, "alice").Want(t, 404, "not_found") // nor for another key
	w.Confirm("all", other, otherCode, "alice").Want(t, 200, "")
	w.Confirm("all", one, code, "alice").Want(t, 200, "")
}

// T04: five tries are all that a session has, whatever becomes of its codes; after them
// the right one is worth nothing, and the link is dead.
func TestFiveWrongCodesEndTheSession(t *testing.T) {
	w := newWorld(t)
	session, link, _ := w.typing("alice")
	for _, left := range []string{"4 tries are left", "3 tries are left"} {
		w.Confirm("all", session, "BBBB-BBBB", "alice").Want(t, 400, left)
	}
	code := w.lastPage(link) // another opening, another code, the same tries
	for _, left := range []string{"2 tries are left", "1 try is left"} {
		w.Confirm("all", session, "BBBB-BBBB", "alice").Want(t, 400, left)
	}
	w.Confirm("all", session, "BBBB-BBBB", "alice").Want(t, 409, "restart_connect")
	w.Confirm("all", session, code, "alice").Want(t, 409, "wrong codes have ended")
	w.Browser().Open(link).Want(t, 409, "This link has expired")
	w.Call("all", "GET", "/v1/connect-sessions/"+session, "").Want(t, 200, `"status":"expired"`)
	if sent := w.Sim.Requests("freeagent")["authorization_code"]; sent != 0 {
		t.Errorf("%d codes were exchanged", sent)
	}
}

// A right code that comes after four wrong ones still connects.
func TestTheFifthTryMayBeRight(t *testing.T) {
	w := newWorld(t)
	session, _, code := w.typing("alice")
	for range 4 {
		w.Confirm("all", session, "BBBB-BBBB", "alice").Want(t, 400, "")
	}
	w.Confirm("all", session, code, "alice").Want(t, 200, "")
}

// However many try at once, five are looked at.
func TestTriesAtOnceAreCountedOneByOne(t *testing.T) {
	w := newWorld(t)
	session, _, code := w.typing("alice")
	answers := make([]brokertest.Answer, 40)
	var group sync.WaitGroup
	for n := range answers {
		group.Go(func() { answers[n] = w.Confirm("all", session, "BBBB-BBBB", "alice") })
	}
	group.Wait()
	looked := 0
	for _, a := range answers {
		if a.Status == 400 {
			looked++
		} else {
			a.Want(t, 409, "restart_connect")
		}
	}
	if looked != 4 { // the fifth look answers that the session is over
		t.Errorf("%d tries were told how many are left, want 4", looked)
	}
	w.Confirm("all", session, code, "alice").Want(t, 409, "")
}

// A process that stopped between the fifth count and the end of the session has left a
// session at which nobody may look any more.
func TestNoSixthLook(t *testing.T) {
	w := newWorld(t)
	session, _, code := w.typing("alice")
	sess, err := w.Store.GetSession(t.Context(), connection.Hash(session))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		res, err := w.Store.CountTry(t.Context(), sess)
		if err != nil || !res.Applied {
			t.Fatal(res, err)
		}
		if again, err := w.Store.CountTry(t.Context(), sess); err != nil || again.Applied {
			t.Fatal("a try is counted over another one", err)
		}
		sess = res.Session
	}
	w.Confirm("all", session, code, "alice").Want(t, 409, "wrong codes have ended")
}

// While the client's secret cannot be read nothing is spent, and no try either: else five
// repeats of a good code in an outage would end the session.
func TestAnOutageCostsNoTry(t *testing.T) {
	w := newWorld(t)
	session, _, code := w.typing("alice")
	var down bool
	w.Serve(w.HTTP(w.Start(w.SecretsFrom(&down))))
	down = true
	for range 6 {
		w.Confirm("all", session, code, "alice").Want(t, 503, "provider_unavailable")
	}
	down = false
	w.Confirm("all", session, code, "alice").Want(t, 200, `"status":"active"`)
}
