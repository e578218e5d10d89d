package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/simulate"
)

// clientSecret holds what the ways to authenticate spell differently.
const clientSecret = "CANARY+client/secret:&="

// stage is a deployment with one integration at a time.
type stage struct{ *brokertest.World }

func newStage(t *testing.T) *stage {
	t.Helper()
	// In memory: what is shown here is the speaking with providers. The stores have a
	// contract of their own.
	st := &stage{World: brokertest.New(t, brokertest.Options{Store: connection.Store{
		Connections:    simulate.NewTable(item.ConnectionIndexes()),
		Authorizations: simulate.NewTable(item.AuthorizationIndexes()),
	}})}
	st.World.Secret(clientSecret)
	return st
}

// play puts a provider of the catalogue on the stage. facts is what its simulator is made
// of, nil for a provider that has one by hand.
func (st *stage) play(id string, facts []byte) (*act, error) {
	known, err := provider.Lookup(id)
	st.Must(err)
	inline := map[string]any{"extends": id, "id": id}
	if facts == nil {
		byHand(inline, st.Sim.Endpoints(id))
		return st.cast(known, inline, nil)
	}
	written, err := provider.Source(id)
	st.Must(err)
	st.Must(st.Sim.Add(id, written))
	inline = st.Sim.Inline(id) // of the entry as it is, whatever the simulator does
	if err := st.Sim.Add(id, facts); err != nil {
		return nil, err
	}
	return st.cast(known, inline, facts)
}

// cast configures the one integration with a provider whose simulator stands.
func (st *stage) cast(known provider.Entry, inline map[string]any, facts []byte) (*act, error) {
	id := known.ID
	i, err := integration(inline, known)
	if err != nil {
		return nil, err
	}
	life := 67 * time.Minute // which no entry says
	if least := time.Duration(known.MinimumTokenAge) * time.Second; least*2 > life {
		life = least * 3
	}
	st.Must(st.Sim.SetTTL(id, life))
	if i.Entry.ConnectionEntry == "" || facts == nil && id != "whenfresh" {
		c := simprovider.Client{ID: brokertest.ClientID, RedirectURIs: []string{i.RedirectURI(st.Origin)}}
		if !i.Clients[0].Public() || st.Sim.Register(id, c) != nil { // some have no public clients
			c.Secret = clientSecret
			st.Must(st.Sim.Register(id, c))
		}
	}
	st.Settings.Integrations = []config.Integration{i}
	st.Home = st.Start(st.secrets)
	return &act{stage: st, byHand: facts == nil, id: id, entry: known, integration: i.Name, life: life}, nil
}

// secrets gives a process the client's secret.
func (st *stage) secrets(c *broker.Config) {
	c.Secrets = config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) { return secret.New(clientSecret), nil }, st.Now)
}

// byHand points an inline provider to a simulator made by hand.
func byHand(inline map[string]any, endpoints map[string]string) {
	for name, address := range endpoints {
		switch name {
		case "authorization_endpoint", "token_endpoint", "revocation_endpoint":
			inline[name] = address
		case "identity.endpoint":
			inline["identity"] = map[string]any{"endpoint": address}
		}
	}
}

// onStage is the name of the one integration, which no other of the world has.
const onStage = "on-stage"

func integration(inline map[string]any, e provider.Entry) (config.Integration, error) {
	fields := map[string]any{"provider": inline, "client_id": brokertest.ClientID, "binding": "cookie", "min_interval_s": 0}
	if e.ConnectionEntry == "" {
		if e.TokenEndpointAuthMethod != "none" {
			fields["client_secret"] = "${env:CLIENT_SECRET}"
		}
		fields["scopes"] = []string{"read", "write"}
	} else {
		delete(fields, "client_id")
		delete(fields, "binding")
	}
	file, err := json.Marshal(map[string]any{"public_url": "http://127.0.0.1:9", "integrations": map[string]any{onStage: fields}})
	if err != nil {
		return config.Integration{}, err
	}
	c, err := yamlfile.Parse(file)
	if err != nil {
		return config.Integration{}, err
	}
	return c.Integrations[0], nil
}

// act is one provider on the stage.
type act struct {
	*stage
	byHand          bool // simulated by code of its own, which knows more than the entry
	id, integration string
	entry           provider.Entry // the catalogue's
	life            time.Duration  // of access tokens here
}

// rehearse takes the provider through all of it, and says what went otherwise than its
// entry has it.
func (a *act) rehearse() error {
	for _, scene := range []struct {
		name string
		play func() error
	}{
		{"connect, call and refresh", a.plain},
		{"dead grant", a.dead},
		{"minimum age", a.tooYoung},
		{"lifetime", a.runsOut},
		{"disconnect", a.disconnect},
		{"limit", a.crowded},
		{"lost answer", a.lost}, // last, since its ticks take longest
	} {
		if err := scene.play(); err != nil {
			return fmt.Errorf("%s: %w", scene.name, err)
		}
	}
	return nil
}

// connect makes a connection of alice's account.
func (a *act) connect() (string, error) { return a.connectAs("owner-alice") }

func (a *act) connectAs(owner string) (string, error) {
	ctx := context.Background()
	if a.entry.ConnectionEntry != "" {
		got, err := a.Home.Import(ctx, brokertest.Caller(), broker.ImportRequest{
			Integration: a.integration, Owner: owner, RefreshToken: secret.New(a.Sim.IssueRefreshToken(a.id, "alice")),
		})
		if err != nil {
			return "", fmt.Errorf("import: %w", err)
		}
		return got.ID, a.active(got.ID)
	}
	s, err := a.Home.CreateSession(ctx, brokertest.Caller(), broker.SessionRequest{Origin: a.Origin, Integration: a.integration, Owner: owner})
	if err != nil {
		return "", err
	}
	b, err := a.Home.Authorize(ctx, broker.AuthorizeRequest{Origin: a.Origin, Integration: a.integration, Session: s.ID})
	if err != nil {
		return "", err
	}
	to := a.Browser().Decide(b.Location, "allow", "alice").Query()
	params := map[string]string{}
	for name := range to {
		params[name] = to.Get(name)
	}
	_, err = a.Home.Callback(ctx, broker.CallbackRequest{Origin: a.Origin, Integration: a.integration, Params: params, Cookies: b.Cookies})
	state, stored := a.Store.GetSession(ctx, connection.Hash(s.ID))
	if err = errors.Join(err, stored); err != nil {
		return "", err
	}
	if state.State != connection.SessionConnected {
		return "", fmt.Errorf("the session is %s %s", state.State, state.Error)
	}
	return state.Result, a.active(state.Result)
}

func (a *act) active(id string) error {
	if r := a.Record(id); r.Status != connection.Active {
		return fmt.Errorf("the connection is %s %s", r.Status, r.Reason)
	}
	return nil
}

// refreshes reports whether the entry has refresh tokens.
func (a *act) refreshes() bool {
	return a.entry.Refresh.Supported != provider.No && (!slices.Contains(a.entry.ResponseQuirks, "no_refresh_token") || a.entry.Refresh.Credential != "")
}

// call uses the access token at the API, and returns whether it is accepted there.
func (a *act) call(id string) (bool, error) {
	v, err := a.Home.Read(id, 0)
	if err != nil {
		return false, fmt.Errorf("token: %w", err)
	}
	example, err := a.Sim.Example(a.id, "authorization_code")
	if a.entry.ConnectionEntry != "" {
		example, err = a.Sim.Example(a.id, "refresh_token")
	}
	if err != nil {
		return false, err
	}
	r, err := http.NewRequestWithContext(context.Background(), example.Method, example.URL, strings.NewReader(example.Body))
	if err != nil {
		return false, err
	}
	for name, value := range v.API.ExtraHeaders {
		r.Header.Set(name, value)
	}
	header, scheme := v.API.AuthHeaderName, v.API.AuthHeaderScheme
	if header == "" {
		header = "Authorization"
	}
	switch scheme {
	case "":
		scheme = "Bearer "
	case provider.NoScheme:
		scheme = ""
	default:
		scheme += " "
	}
	r.Header.Set(header, scheme+v.AccessToken.Reveal())
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return false, err
	}
	for _, rej := range v.API.Rejections() {
		if rej.Status == res.StatusCode && (rej.Equals == "" || strings.Contains(string(body), `"`+rej.Equals+`"`) || strings.Contains(string(body), `:`+rej.Equals)) {
			return false, nil
		}
	}
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("the API answers %d", res.StatusCode)
	}
	return true, nil
}

// fit lets the time pass in which the provider would refuse a refresh.
func (a *act) fit() { a.Advance(time.Duration(a.entry.MinimumTokenAge)*time.Second + time.Minute) }

// plain connects, calls the API, and refreshes twice.
func (a *act) plain() error {
	id, err := a.connect()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := errors.Join(a.accepted(id), a.lives(id)); err != nil {
		return err
	}
	if !a.refreshes() {
		return nil
	}
	for n := range 2 {
		a.fit()
		_, before := a.Tokens(id)
		gen := a.Record(id).Gen
		if err := a.Home.Force(id); err != nil {
			return fmt.Errorf("refresh: %w", err)
		}
		if now := a.Record(id).Gen; now <= gen {
			return errors.New("refresh: nothing new is stored")
		}
		_, after := a.Tokens(id)
		if err := a.rotated(n, before != after); err != nil {
			return err
		}
		if err := errors.Join(a.accepted(id), a.lives(id)); err != nil {
			return fmt.Errorf("after a refresh: %w", err)
		}
	}
	return nil
}

func (a *act) accepted(id string) error {
	ok, err := a.call(id)
	if err == nil && !ok {
		err = errors.New("the API refuses the token")
	}
	return err
}

// rotated compares what the nth refresh did with what is known of the provider. Where
// nothing is known the simulator has to rotate, which is the worst.
func (a *act) rotated(n int, rotated bool) error {
	want := true
	switch a.profile().Rotation {
	case provider.RotationNone:
		want = false
	case provider.RotationSometimes:
		want = n%2 == 0
	case provider.RotationUnknown:
		if a.byHand {
			return nil
		}
	}
	if rotated != want {
		return fmt.Errorf("refresh: a new refresh token came: %v, by the entry: %v", rotated, want)
	}
	return nil
}

// survives reports whether a refresh whose answer was lost can be made good, as far as
// the entry's facts that may be trusted go.
func (a *act) survives() bool {
	p := a.profile()
	trusted := func(field, value, want string) bool {
		return value == want && a.entry.Evidence[evidenced(a.entry, field)].Kind != "recalled"
	}
	r := a.entry.Refresh
	return p.Rotation == provider.RotationNone || p.LostAnswer == provider.GraceResend ||
		trusted("refresh.previous_token", r.PreviousToken, "stays") ||
		trusted("refresh.previous_token", r.PreviousToken, "dies_on_first_use_of_new") ||
		trusted("refresh.reuse", r.Reuse, "same_answer")
}

// evidenced is the name under which a field has its evidence.
func evidenced(e provider.Entry, field string) string {
	if _, ok := e.Evidence[field]; !ok {
		field, _, _ = strings.Cut(field, ".")
	}
	return field
}

// lost has the answer to a refresh get lost.
func (a *act) lost() error {
	if !a.refreshes() {
		return nil
	}
	id, err := a.connect()
	if err != nil {
		return err
	}
	a.fit()
	gen := a.Record(id).Gen
	a.Must(a.Sim.AddFault(a.id, simprovider.Fault{On: "token", Kind: "lost_answer"}))
	_ = a.Home.Force(id) // it may have been made good within
	r := a.settle(id, func(r connection.Record) bool {
		return r.Status == connection.NeedsReauth || r.Gen > gen && r.Attempt.ID == "" && r.DoubtAt == 0
	})
	switch recovered := r.Status == connection.Active && r.Gen > gen && r.DoubtAt == 0; {
	case recovered && !a.survives() && !a.byHand:
		return errors.New("it came back, where the entry says nothing that lets it")
	case !recovered && a.survives():
		return fmt.Errorf("it is %s %s, where the entry says that nothing is lost", r.Status, r.Reason)
	case !recovered && r.Status != connection.NeedsReauth:
		return fmt.Errorf("it is %s, gen %d, doubt %d", r.Status, r.Gen, r.DoubtAt)
	case recovered:
		return a.accepted(id)
	}
	return nil
}

// settle lets the time go on until the connection is as it should be.
func (a *act) settle(id string, done func(connection.Record) bool) connection.Record {
	r := a.Record(id)
	for n := 0; n < 80 && !done(r); n++ {
		a.Home.TickNow()
		a.Advance(a.life / 20)
		r = a.Record(id)
	}
	return r
}

// dead has the user end the grant at the provider, once for each name of a dead grant.
func (a *act) dead() error {
	for range max(1, len(a.entry.DeadRefreshErrors)) {
		if err := a.deadOnce(); err != nil {
			return err
		}
	}
	return nil
}

func (a *act) deadOnce() error {
	id, err := a.connect()
	if err != nil {
		return err
	}
	a.fit()
	a.Sim.RevokeUser(a.id, "alice")
	a.UserEnded()
	forced := a.Home.Force(id)
	if !a.refreshes() && len(a.entry.RetryStatus) == 0 {
		// Nothing is stored that could be found dead: whoever meets the refusal is told.
		live, err := a.call(id)
		if err != nil || live || brokertest.Code(forced) != broker.NeedsReauth {
			return fmt.Errorf("the API takes the token: %v, %w; the refresh: %w", live, err, forced)
		}
		return nil
	}
	return a.endedFor(id, forced)
}

// receipt is the one that the entry's facts allow.
func (a *act) receipt() (revoked, proof string) {
	e, p := a.entry, a.profile()
	held := a.refreshes()
	takesRefresh, takesAccess := e.RevocationEndpoint != "", e.RevocationEndpoint != ""
	if accepts := e.Revocation.Accepts; len(accepts) > 0 {
		takesRefresh, takesAccess = takesRefresh && slices.Contains(accepts, "refresh_token"), takesAccess && slices.Contains(accepts, "access_token")
	}
	if t := e.RevocationRequest; t.URL != "" {
		takesRefresh, takesAccess = t.Token != "access_token", t.Token != "refresh_token"
	}
	switch {
	case !takesRefresh && !takesAccess, !held && !takesAccess:
		return "unsupported", "none"
	case held && p.ProofSafe:
		return "at_provider", "refresh_refused"
	case held && !takesRefresh:
		return "unsupported", "none"
	}
	return "at_provider", "none"
}

// disconnect ends a connection, and compares the receipt.
func (a *act) disconnect() error {
	id, err := a.connect()
	if err != nil {
		return err
	}
	a.fit()
	access, _ := a.Tokens(id)
	got, err := a.Home.Disconnect(context.Background(), brokertest.Caller(), id)
	if err != nil {
		return err
	}
	revoked, proof := a.receipt()
	if got.Revoked != revoked || got.Proof != proof {
		return fmt.Errorf("the receipt says %s, %s; by the entry it is %s, %s", got.Revoked, got.Proof, revoked, proof)
	}
	if known, ok := a.Sim.Lookup(a.id, access); ok && known.Live && revoked == "at_provider" {
		return errors.New("the access token lives on, though the receipt says that it does not")
	}
	return nil
}

// TestEveryEntry takes each entry of the catalogue through the life of a connection.
func TestEveryEntry(t *testing.T) {
	for _, id := range provider.IDs() {
		t.Run(id, func(t *testing.T) {
			facts, err := provider.Source(id)
			if err != nil {
				t.Fatal(err)
			}
			mustPass(t, id, facts)
			if slices.Contains(simprovider.Providers(), id) {
				t.Run("made by hand", func(t *testing.T) { mustPass(t, id, nil) })
			}
		})
	}
}

// mustPass takes one provider through all of it, on a stage of its own.
func mustPass(t *testing.T, id string, facts []byte) {
	st := newStage(t)
	a, err := st.play(id, facts)
	st.Must(err)
	if err := a.rehearse(); err != nil {
		t.Errorf("%v\n%s", err, st.Log)
	}
}
