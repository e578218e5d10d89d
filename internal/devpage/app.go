package devpage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// person is a user of the application. ID is what Evergrant gets to know as the owner.
type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// account is the person's login at the simulated providers.
	account string
}

// people may log in, without a password. The first one is logged in at first.
func people() []person {
	return []person{{"ada", "Ada", "alice"}, {"grace", "Grace", "bob"}}
}

// loginCookie holds who is logged in. A cookie knows no port, so its name is meant to
// clash with nobody's.
const loginCookie = "evergrant-dev-person"

// whoIs is the person in front of the browser.
func whoIs(r *http.Request) person {
	if c, err := r.Cookie(loginCookie); err == nil {
		if n := slices.IndexFunc(people(), func(p person) bool { return p.ID == c.Value }); n >= 0 {
			return people()[n]
		}
	}
	return people()[0]
}

// login is POST /app/login {person}.
func (p *page) login(w http.ResponseWriter, r *http.Request) {
	body, err := read(r)
	known := slices.ContainsFunc(people(), func(p person) bool { return p.ID == body.Person })
	if err != nil || !known {
		writeJSON(w, map[string]any{"problem": problemOf(refusal("unknown_person", "There is no such person."))})
		return
	}
	// Lax: the cookie has to come along when a provider sends the browser back.
	http.SetCookie(w, &http.Cookie{Name: loginCookie, Value: body.Person, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	writeJSON(w, map[string]any{})
}

// request is what the page's requests hold, each a part of it.
type request struct {
	Person      string `json:"person"`
	Integration string `json:"integration"`
	Connection  string `json:"connection"`
	Kind        Fault  `json:"kind"`
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 4 << 10

func read(r *http.Request) (request, error) {
	var body request
	d := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return request{}, refusal("invalid_request", "The request is not the page's JSON.")
	}
	return body, nil
}

// plainID is what an id may look like that is put into a path.
var plainID = regexp.MustCompile(`^conn_[A-Za-z0-9_-]{1,80}$`)

// target reads which connection a request is about, and sees to it that it is the
// person's own. Evergrant serves the whole application, so this is the application's
// to check.
func (p *page) target(r *http.Request, who person) (wire.Connection, request, error) {
	body, err := read(r)
	if err != nil {
		return wire.Connection{}, body, err
	}
	var c wire.Connection
	if plainID.MatchString(body.Connection) {
		if _, err = p.api.api(r.Context(), who, "", http.MethodGet, "/v1/connections/"+body.Connection, nil, &c); err != nil {
			return c, body, err
		}
	}
	if c.ID == "" || c.Owner != who.ID {
		return wire.Connection{}, body, refusal("not_found", "%s has no such connection.", who.Name)
	}
	return c, body, nil
}

// state is GET /app/state: what the page shows, asked for every second.
func (p *page) state(r *http.Request, who person) (any, error) {
	list, err := p.api.connections(r.Context(), who)
	if err != nil {
		return nil, err
	}
	// The data folder may hold those of other providers that were rehearsed.
	list = slices.DeleteFunc(list, func(c wire.Connection) bool { _, shown := p.byName[c.Integration]; return !shown })
	return map[string]any{
		"now": p.Now().UTC().Format(time.RFC3339Nano), "person": who.ID, "people": people(), "faults": p.Faults != nil,
		"connections": list, "calls": p.api.callsOf(who),
	}, nil
}

// shownIntegration is a card of the page.
type shownIntegration struct {
	Name        string  `json:"name"`
	Title       string  `json:"title"`
	About       string  `json:"about"`
	Grant       string  `json:"grant"`
	AccountURL  string  `json:"account_url"`
	RedirectURI string  `json:"redirect_uri"` // empty where no browser comes back
	Suspended   *string `json:"suspended"`    // why nothing is sent, or null
}

// integrations is GET /app/integrations.
func (p *page) integrations(r *http.Request, who person) (any, error) {
	var list wire.List[wire.Integration]
	if _, err := p.api.api(r.Context(), who, "", http.MethodGet, "/v1/integrations", nil, &list); err != nil {
		return nil, err
	}
	items := []shownIntegration{}
	for _, i := range p.Integrations {
		card := shownIntegration{Name: i.Name, Title: i.Title, About: i.About, Grant: i.Grant, AccountURL: i.AccountURL}
		for _, known := range list.Items {
			if known.Name == i.Name {
				card.RedirectURI, card.Suspended = redirectURI(i, known), suspension(known)
			}
		}
		items = append(items, card)
	}
	return map[string]any{"items": items}, nil
}

func redirectURI(i Integration, known wire.Integration) string {
	if i.Grant == ByConsent {
		return known.RedirectURI
	}
	return ""
}

func suspension(known wire.Integration) *string {
	for _, c := range known.Clients {
		if known.Status == "suspended" && c.Circuit.Reason != nil {
			return c.Circuit.Reason
		}
	}
	return nil
}

// connect is POST /app/connect {integration, connection?}: the beginning of a connection
// by whichever way the provider has, or with connection once more of the same one.
func (p *page) connect(r *http.Request, who person) (any, error) {
	body, err := read(r)
	if err != nil {
		return nil, err
	}
	i, ok := p.byName[body.Integration]
	if !ok {
		return nil, refusal("not_found", "There is no such integration.")
	}
	if i.Grant == ByConsent {
		return p.link(r, who, wire.SessionRequest{
			Integration: i.Name, Owner: who.ID, ReturnTo: p.Origin + "/app/return", ConnectionID: body.Connection,
		})
	}
	in, why := wire.ImportRequest{Integration: i.Name, Owner: who.ID}, "hands over the user's refresh token"
	if i.Grant == ByImport {
		if in.RefreshToken = pasted(i, who); in.RefreshToken == "" {
			return nil, refusal("no_token", "%s showed no token to paste.", i.Title)
		}
	} else {
		// No user is asked and one connection is as good as another: the external id
		// makes a second click find the first one's.
		in.GrantType, in.ExternalID, why = wire.ClientCredentials, "of-"+who.ID, "asks for a connection without a user"
	}
	var c wire.Connection
	status, err := p.api.api(r.Context(), who, why, http.MethodPost, "/v1/connections", in, &c)
	if err != nil {
		return nil, err
	}
	return map[string]any{"connection": c.ID, "existed": status == http.StatusOK}, nil
}

// link makes a connect session, whose link is for this browser.
func (p *page) link(r *http.Request, who person, in wire.SessionRequest) (any, error) {
	if in.ConnectionID != "" && !plainID.MatchString(in.ConnectionID) {
		return nil, refusal("not_found", "%s has no such connection.", who.Name)
	}
	var made wire.NewSession
	if _, err := p.api.api(r.Context(), who, "asks for a link to send the user to", http.MethodPost, "/v1/connect-sessions", in, &made); err != nil {
		return nil, err
	}
	return map[string]any{"navigate": made.AuthorizeURL}, nil
}

// sessionID is what a connect session's id may look like, and outcome what an error
// code may; both come from the browser's address line.
var (
	sessionID = regexp.MustCompile(`^cs_[A-Za-z0-9_-]{1,80}$`)
	outcome   = regexp.MustCompile(`^[a-z_]{1,40}$`)
)

// comeBack is GET /app/return, where the browser ends up after the consent. Only the
// application knows who is in front of it, so it says so: a link that somebody else
// was made to open connects nothing (confirm binds the session's owner).
func (p *page) comeBack(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "A look ahead confirms nothing.", http.StatusMethodNotAllowed)
		return
	}
	q, who := r.URL.Query(), whoIs(r)
	session, code := q.Get("evergrant_session"), q.Get("evergrant_error")
	var c wire.Connection
	if code == "" && sessionID.MatchString(session) {
		in := wire.ConfirmRequest{Confirm: q.Get("evergrant_confirm"), Owner: who.ID}
		_, err := p.api.api(r.Context(), who, "confirms that it was "+who.Name+" who consented", http.MethodPost, "/v1/connect-sessions/"+session+"/confirm", in, &c)
		if err != nil {
			code = problemOf(err).Code
		}
	}
	// The fragment stays in the browser, and the page cleans it away.
	fragment := c.ID
	if c.ID == "" {
		if !outcome.MatchString(code) {
			code = "unknown"
		}
		fragment = "failed=" + url.QueryEscape(code)
	}
	http.Redirect(w, r, "/#"+fragment, http.StatusSeeOther)
}

// called is what the page shows of a call to a provider's API. The token is named, not
// shown.
type called struct {
	Request    string     `json:"request"` // method and URL
	Status     int        `json:"status"`
	Kind       string     `json:"kind"` // media type
	Body       string     `json:"body"`
	TokenID    string     `json:"token_id"`
	Generation int64      `json:"generation"`
	UseUntil   *time.Time `json:"use_until"`
	Retried    bool       `json:"retried"` // the first token was refused and exchanged
}

// call is POST /app/call {connection}: how an application uses a connection. A refusal of
// the token, a 401 as a rule, is reported, which brings another token or the same one if it was not the token's fault,
// and the call is repeated once.
func (p *page) call(r *http.Request, who person) (any, error) {
	c, _, err := p.target(r, who)
	if err != nil {
		return nil, err
	}
	i, ok := p.byName[c.Integration]
	if !ok || i.Call == nil {
		return nil, refusal("not_found", "The application makes no calls there.")
	}
	t, err := p.api.token(r.Context(), who, c.ID)
	if err != nil {
		return nil, err
	}
	said, err := p.api.provider(r.Context(), who, i, t, "calls "+i.Title+" with it")
	retried := err == nil && said.Refused
	if retried {
		had := wire.RefreshRequest{IfGeneration: t.Generation, IfTokenID: t.TokenID}
		if t, err = p.api.renew(r.Context(), who, "reports that it was refused, and gets another token", c.ID, had); err != nil {
			return nil, err
		}
		said, err = p.api.provider(r.Context(), who, i, t, "calls "+i.Title+" again")
	}
	if err != nil {
		return nil, err
	}
	method, address, _ := i.Call()
	return called{
		Request: method + " " + address, Status: said.Status, Kind: said.Kind, Body: said.Body,
		TokenID: t.TokenID, Generation: t.Generation, UseUntil: t.UseUntil, Retried: retried,
	}, nil
}

// refresh is POST /app/refresh {connection}: as if the token of the generation that is
// shown had been refused.
func (p *page) refresh(r *http.Request, who person) (any, error) {
	c, _, err := p.target(r, who)
	if err != nil {
		return nil, err
	}
	t, err := p.api.renew(r.Context(), who, fmt.Sprintf("asks to refresh generation %d", c.Generation), c.ID, wire.RefreshRequest{IfGeneration: c.Generation})
	if err != nil {
		return nil, err
	}
	return map[string]any{"generation": t.Generation}, nil
}

// disconnect is POST /app/disconnect {connection}. It answers with the receipt.
func (p *page) disconnect(r *http.Request, who person) (any, error) {
	c, _, err := p.target(r, who)
	if err != nil {
		return nil, err
	}
	var receipt wire.Receipt
	_, err = p.api.api(r.Context(), who, "ends the connection", http.MethodDelete, "/v1/connections/"+c.ID, nil, &receipt)
	return receipt, err
}

// fault is POST /app/fault {connection, kind}: the provider of that connection
// misbehaves.
func (p *page) fault(r *http.Request, who person) (any, error) {
	c, body, err := p.target(r, who)
	if err != nil {
		return nil, err
	}
	i, ok := p.byName[c.Integration]
	if p.Faults == nil || !ok || body.Kind != LoseAnswer && body.Kind != RevokeAccess {
		return nil, refusal("not_found", "There is no such fault here.")
	}
	if err := p.Faults(i.Provider, body.Kind); err != nil {
		return nil, errors.Join(refusal("fault", "%s could not be made to fail.", i.Title), err)
	}
	return map[string]any{}, nil
}
