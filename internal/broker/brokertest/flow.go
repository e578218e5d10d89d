package brokertest

import (
	"context"
	"fmt"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// Flow is a browser at the provider's page, on its way to connect or reconnect.
type Flow struct {
	Integration string
	Session     string // id
	Page        string
	Cookies     []broker.Cookie
}

// Begin opens a connect link of the user's owner, "owner-" and the user. id is the
// connection to reconnect, "" for a new one.
func (w *World) Begin(user, id string) Flow {
	w.T.Helper()
	return w.begin(Integration, "owner-"+user, id)
}

func (w *World) begin(integration, owner, id string) Flow {
	w.T.Helper()
	s, err := w.Home.CreateSession(context.Background(), Caller(),
		broker.SessionRequest{Origin: w.Origin, Integration: integration, Owner: owner, ConnectionID: id})
	w.Must(err)
	w.Secret(s.ID)
	return w.open(integration, s.ID)
}

// Open opens the link of a session.
func (w *World) Open(session string) Flow {
	w.T.Helper()
	return w.open(Integration, session)
}

func (w *World) open(integration, session string) Flow {
	w.T.Helper()
	b, err := w.Home.Authorize(context.Background(), broker.AuthorizeRequest{Origin: w.Origin, Integration: integration, Session: session})
	w.Must(err)
	return Flow{Integration: integration, Session: session, Page: b.Location, Cookies: b.Cookies}
}

// Allow has the user consent; what comes back is the callback's request.
func (w *World) Allow(user string, f Flow) broker.CallbackRequest {
	w.T.Helper()
	to := w.Browser().Decide(f.Page, "allow", user).Query()
	if to.Get("code") == "" {
		w.T.Fatalf("consent of %s: no code", user)
	}
	params := map[string]string{}
	for k := range to {
		params[k] = to.Get(k)
	}
	w.Secret(params["code"])
	w.Secret(params["state"])
	return broker.CallbackRequest{Origin: w.Origin, Integration: f.Integration, Params: params, Cookies: f.Cookies}
}

// SessionOf is the state of the session of a flow.
func (w *World) SessionOf(f Flow) connection.Session {
	w.T.Helper()
	s, err := w.Store.GetSession(context.Background(), connection.Hash(f.Session))
	w.Must(err)
	return s
}

// Connect makes a new connection of the user's owner and returns its id.
func (w *World) Connect(user string) string {
	w.T.Helper()
	return w.ConnectAs(Integration, user, "owner-"+user)
}

// ConnectAs makes a connection of an owner of its own at an integration in cookie mode.
func (w *World) ConnectAs(integration, user, owner string) string {
	w.T.Helper()
	f := w.begin(integration, owner, "")
	_, err := w.Home.Callback(context.Background(), w.Allow(user, f))
	w.Must(err)
	s := w.SessionOf(f)
	if s.State != connection.SessionConnected || s.Result == "" {
		w.T.Fatalf("connect %s: the session is %s %s\n%s", owner, s.State, s.Error, w.Log)
	}
	return s.Result
}

// Reconnect has the user consent again for a connection, by a process.
func (w *World) Reconnect(p *Process, user, id string) connection.Session {
	w.T.Helper()
	f := w.Begin(user, id)
	if _, err := p.Callback(context.Background(), w.Allow(user, f)); err != nil {
		w.T.Logf("callback: %v", err)
	}
	return w.SessionOf(f)
}

// Second is another integration, for rows in which the trouble of one must not be that
// of another. Its provider kills the old access token at a refresh.
const Second = "redbooth"

// AddSecond puts Second into the configuration of Home, which starts anew, and of all
// processes that start from now on.
func (w *World) AddSecond() {
	w.T.Helper()
	c, err := yamlfile.Parse([]byte(`
integrations:
  redbooth: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie, min_interval_s: 0}
`))
	w.Must(err)
	i := c.Integrations[0]
	w.Must(Simulate(w.Sim, &i, w.Origin))
	i.Entry.Identity = provider.Identity{}
	w.Settings.Integrations = append(w.Settings.Integrations, i)
	w.Restart()
}

// ConnectMany makes n connections, half of them of each user.
func (w *World) ConnectMany(integration string, n int) []string {
	w.T.Helper()
	var ids []string
	for k := range n {
		ids = append(ids, w.ConnectAs(integration, []string{"alice", "bob"}[k%2], fmt.Sprintf("%s-owner-%d", integration, k)))
	}
	return ids
}
