package connection

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/item"
)

// Hash is the key under which a random value is stored: SHA-256 in hex, never the
// value itself, so that who reads the table cannot use what it finds.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// SessionState is how far an attempt to connect has come.
type SessionState string

// The states of a connect session.
const (
	SessionOpen        SessionState = "open"             // the link was not opened yet
	SessionAuthorizing SessionState = "authorizing"      // the browser is at the provider
	SessionAwaiting    SessionState = "awaiting_confirm" // a code waits for the backend's word
	SessionExchanging  SessionState = "exchanging"       // somebody took the code
	SessionExchanged   SessionState = "exchanged"        // the tokens are safe in the session
	SessionConnected   SessionState = "connected"
	SessionFailed      SessionState = "failed"
)

// Take is the right to exchange the code of a session, taken once.
type Take struct {
	ID         string
	Until      int64 // unix s; past it an unfinished exchange reads as failed
	Client     string
	ClientID   string
	Owner      string
	Connection string // the id that a new connection will get, drawn here and never again
	Confirm    string // hash of the confirm token, which may be repeated; "" in cookie mode
}

// Session is one attempt to connect an owner to an integration.
type Session struct {
	Hash        string // key: Hash of the session's id
	Integration string
	Owner       string // "" of a public one until it is confirmed
	Key         string // name of the API key that created it, "" of a public one
	ReturnTo    string
	Scopes      string // space-separated, asked for
	LoginHint   string
	Variables   map[string]string // of the provider's URLs, for the connection to be
	Tags        map[string]string
	Public      bool

	ConnectionID       string // of a reconnect
	DisconnectGen      int64  // of that connection when the session was created
	AllowAccountChange bool

	State     SessionState
	Error     string // problem code of a failed one
	CreatedAt int64
	ExpiresAt int64

	Codes       []string // keys of the codes that await confirmation
	Take        Take
	Seq         int64 // consent number of a reconnect, 0 before it is drawn
	Tokens      item.Bytes
	ExchangedAt int64
	Result      string // id of the connection that came of it
	Tries       int64  // how often a typed code was tried
	Todo        string
}

// Expired reports whether the session's time is over. From the moment its code is
// taken on, nothing expires but the take.
func (s *Session) Expired(now int64) bool {
	switch s.State {
	case SessionOpen, SessionAuthorizing, SessionAwaiting:
		return now >= s.ExpiresAt
	case SessionFailed:
		return s.ExchangedAt == 0 && now >= s.ExpiresAt
	}
	return false
}

// Stuck reports whether its exchange was begun and never finished.
func (s *Session) Stuck(now int64) bool { return s.State == SessionExchanging && now >= s.Take.Until }

func (s *Session) item() item.Item {
	i := item.Item{
		"kind": "session", "integration": s.Integration, "state": string(s.State),
		"created_at": s.CreatedAt, "expires_at": s.ExpiresAt, "ttl": s.ExpiresAt + sessionKept,
		"disconnect_gen": s.DisconnectGen,
	}
	for name, v := range map[string]string{
		"owner": s.Owner, "key": s.Key, "return_to": s.ReturnTo, "scopes": s.Scopes, "login_hint": s.LoginHint, "conn": s.ConnectionID,
	} {
		if v != "" {
			i[name] = v
		}
	}
	if s.AllowAccountChange {
		i["account_change"] = true
	}
	if s.Public {
		i["public"] = true
	}
	if m := item.StringMap(s.Tags); m != nil {
		i["tags"] = m
	}
	if m := item.StringMap(s.Variables); m != nil {
		i["vars"] = m
	}
	return i
}

// sessionKept is how long after its end a session still answers for itself, s.
const sessionKept = 24 * 3600

func sessionFrom(hash string, i item.Item) Session {
	take := i.Map("take")
	s := Session{
		Hash: hash, Integration: i.String("integration"), Owner: i.String("owner"), Key: i.String("key"),
		ReturnTo: i.String("return_to"), Scopes: i.String("scopes"), LoginHint: i.String("login_hint"), Tags: i.Map("tags").Strings(),
		Variables: i.Map("vars").Strings(), Public: i.Bool("public"), ConnectionID: i.String("conn"), DisconnectGen: i.Int("disconnect_gen"),
		AllowAccountChange: i.Bool("account_change"), State: SessionState(i.String("state")), Error: i.String("error"),
		CreatedAt: i.Int("created_at"), ExpiresAt: i.Int("expires_at"),
		Take: Take{
			ID: take.String("id"), Until: take.Int("until"), Client: take.String("client"), ClientID: take.String("client_id"),
			Owner: take.String("owner"), Connection: take.String("conn"), Confirm: take.String("confirm"),
		},
		Seq: i.Int("n"), Tokens: i.Bytes("tokens"), ExchangedAt: i.Int("exchanged_at"), Result: i.String("result"), Tries: i.Int("tries"), Todo: i.String("todo"),
	}
	for _, c := range i.List("codes") {
		if key, ok := c.(string); ok {
			s.Codes = append(s.Codes, key)
		}
	}
	return s
}

// SessionResult is what became of a write of a session.
type SessionResult struct {
	Applied bool
	Found   bool
	Session Session
}

func (s Store) session(ctx context.Context, hash string, u item.Update, what string) (SessionResult, error) {
	res, err := s.Authorizations.Update(ctx, hash, u)
	if err != nil {
		return SessionResult{}, fmt.Errorf("%s of session: %w", what, err)
	}
	return SessionResult{Applied: res.Applied, Found: res.Item != nil, Session: sessionFrom(hash, res.Item)}, nil
}

// CreateSession stores a new session under the hash of its id.
func (s Store) CreateSession(ctx context.Context, sess Session) error {
	u := item.Update{Target: item.Absent}
	for name, v := range sess.item() {
		u.Set = append(u.Set, item.Put(name, v))
	}
	_, err := s.session(ctx, sess.Hash, u, "creation")
	return err
}

// GetSession reads a session. ErrNotFound.
func (s Store) GetSession(ctx context.Context, hash string) (Session, error) {
	i, err := s.Authorizations.Get(ctx, hash)
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	if i.String("kind") != "session" {
		return Session{}, fmt.Errorf("session: %w", ErrNotFound)
	}
	return sessionFrom(hash, i), nil
}

// OpenSession moves a session to authorizing: from open, from an attempt that was
// refused, or from a take that was never finished; never back from
// awaiting_confirm, exchanged or connected, whose openings only add a state.
func (s Store) OpenSession(ctx context.Context, sess Session, now int64) (SessionResult, error) {
	u := item.Update{
		If: []item.Cond{
			item.Eq("state", string(sess.State)), item.Ne("state", string(SessionAwaiting)), item.Gt("expires_at", now), item.Lacks("exchanged_at"),
		},
		Set:    []item.Assign{item.Put("state", string(SessionAuthorizing))},
		Remove: []string{"error", "take"},
	}
	if sess.State == SessionExchanging {
		u.If = append(u.If, item.Eq("take.id", sess.Take.ID), item.Lt("take.until", now+1))
	}
	return s.session(ctx, sess.Hash, u, "opening")
}

// AwaitConfirm files one more code of the session.
func (s Store) AwaitConfirm(ctx context.Context, sess Session, code string, now int64) (SessionResult, error) {
	codes := codeList(sess.Codes)
	u := item.Update{
		If: []item.Cond{
			item.In("state", string(SessionAuthorizing), string(SessionAwaiting), string(SessionOpen), string(SessionFailed)),
			item.Gt("expires_at", now), item.Lacks("exchanged_at"),
		},
		Set:    []item.Assign{item.Put("state", string(SessionAwaiting)), item.Put("codes", append(codes, code))},
		Remove: []string{"error", "take"},
	}
	if len(codes) == 0 {
		u.If = append(u.If, item.Lacks("codes"))
	} else {
		u.If = append(u.If, item.Eq("codes", codes))
	}
	return s.session(ctx, sess.Hash, u, "await confirm")
}

// RefuseCode takes a spent code off the session's list: its confirmation was refused.
// When no other one waits, the browser is to come back again.
func (s Store) RefuseCode(ctx context.Context, sess Session, code string) (SessionResult, error) {
	u := item.Update{If: []item.Cond{item.Eq("state", string(SessionAwaiting)), item.Eq("codes", codeList(sess.Codes))}}
	rest := slices.DeleteFunc(slices.Clone(sess.Codes), func(c string) bool { return c == code })
	if len(rest) > 0 {
		u.Set = []item.Assign{item.Put("codes", codeList(rest))}
	} else {
		u.Set, u.Remove = []item.Assign{item.Put("state", string(SessionAuthorizing))}, []string{"codes"}
	}
	return s.session(ctx, sess.Hash, u, "refusal")
}

func codeList(codes []string) item.List {
	out := make(item.List, 0, len(codes)+1)
	for _, c := range codes {
		out = append(out, c)
	}
	return out
}

// FailSession says why an attempt before any exchange came to nothing. The link may
// be opened again until it expires.
func (s Store) FailSession(ctx context.Context, hash, code string, now int64) (SessionResult, error) {
	return s.session(ctx, hash, item.Update{
		If: []item.Cond{
			item.In("state", string(SessionAuthorizing), string(SessionOpen)), item.Gt("expires_at", now),
		},
		Set: []item.Assign{item.Put("state", string(SessionFailed)), item.Put("error", code)},
	}, "failure")
}

// beforeExchange is the condition that nobody has taken a code of the session yet.
func beforeExchange() []item.Cond {
	return []item.Cond{
		item.In("state", string(SessionOpen), string(SessionAuthorizing), string(SessionAwaiting), string(SessionFailed)), item.Lacks("exchanged_at"),
	}
}

// CountTry counts one more try at a typed code, if no other one was counted since the
// session was read.
func (s Store) CountTry(ctx context.Context, sess Session) (SessionResult, error) {
	u := item.Update{If: beforeExchange(), Set: []item.Assign{item.Put("tries", sess.Tries+1)}}
	if sess.Tries == 0 {
		u.If = append(u.If, item.Lacks("tries"))
	} else {
		u.If = append(u.If, item.Eq("tries", sess.Tries))
	}
	return s.session(ctx, sess.Hash, u, "try")
}

// EndTries ends a session for good at which too many codes were tried: its link cannot
// be opened again.
func (s Store) EndTries(ctx context.Context, hash, code string, now int64) (SessionResult, error) {
	return s.session(ctx, hash, item.Update{
		If:     beforeExchange(),
		Set:    []item.Assign{item.Put("state", string(SessionFailed)), item.Put("error", code), item.Put("expires_at", now)},
		Remove: []string{"codes", "take"},
	}, "end of tries")
}

// TakeCode takes the right to exchange: one taker alone, while the session lives
// and awaits it. From here on the session's own expiry counts no more.
func (s Store) TakeCode(ctx context.Context, hash string, take Take, now int64) (SessionResult, error) {
	from := []item.Value{string(SessionAwaiting)}
	if take.Confirm == "" { // cookie mode: the callback takes the code that it holds
		from = []item.Value{string(SessionAuthorizing), string(SessionOpen), string(SessionFailed)}
	}
	return s.session(ctx, hash, item.Update{
		If: []item.Cond{item.In("state", from...), item.Gt("expires_at", now), item.Lacks("exchanged_at")},
		Set: []item.Assign{
			item.Put("state", string(SessionExchanging)), item.Put("owner", take.Owner),
			item.Put("take", item.Map{
				"id": take.ID, "until": take.Until, "client": take.Client, "client_id": take.ClientID,
				"owner": take.Owner, "conn": take.Connection, "confirm": take.Confirm,
			}),
		},
		Remove: []string{"codes", "error"},
	}, "take")
}

// Exchanged makes the answer to a code exchange safe in its session: sealed, with
// the consent number, seven days long. Only then come the reads that may fail.
type Exchanged struct {
	Take   string
	Tokens item.Bytes
	Seq    int64
	At     int64
	Todo   string
}

// SaveExchanged stores it, if the take is still ours.
func (s Store) SaveExchanged(ctx context.Context, hash string, w Exchanged) (SessionResult, error) {
	return s.session(ctx, hash, item.Update{
		If: []item.Cond{item.Eq("state", string(SessionExchanging)), item.Eq("take.id", w.Take)},
		Set: []item.Assign{
			item.Put("state", string(SessionExchanged)), item.Put("tokens", w.Tokens), item.Put("n", w.Seq),
			item.Put("exchanged_at", w.At), item.Put("todo", w.Todo), item.Put("ttl", w.At+7*24*3600),
		},
	}, "exchanged")
}

// FailTake ends a take whose exchange was refused: nothing came of the code.
func (s Store) FailTake(ctx context.Context, hash, take, code string) (SessionResult, error) {
	return s.session(ctx, hash, item.Update{
		If:  []item.Cond{item.Eq("state", string(SessionExchanging)), item.Eq("take.id", take)},
		Set: []item.Assign{item.Put("state", string(SessionFailed)), item.Put("error", code)},
	}, "failure of take")
}

// EndSession ends an exchanged session once its connection is stored (code "") or
// could not be joined; the tokens go. The todo stays until the tick has superseded.
func (s Store) EndSession(ctx context.Context, hash, take, result, code string, now int64) (SessionResult, error) {
	u := item.Update{
		If:     []item.Cond{item.Eq("state", string(SessionExchanged)), item.Eq("take.id", take)},
		Set:    []item.Assign{item.Put("state", string(SessionConnected)), item.Put("ttl", now+sessionKept)},
		Remove: []string{"tokens"},
	}
	if code != "" {
		u.Set[0] = item.Put("state", string(SessionFailed))
		u.Set = append(u.Set, item.Put("error", code))
	}
	if result != "" {
		u.Set = append(u.Set, item.Put("result", result))
	}
	return s.session(ctx, hash, u, "end")
}

// PostponeSession puts the tick's next try of an unfinished session off.
func (s Store) PostponeSession(ctx context.Context, hash, old, todo string) error {
	u := item.Update{If: []item.Cond{item.Eq("todo", old)}, Set: []item.Assign{item.Put("todo", todo)}}
	if todo == "" {
		u.Set, u.Remove = nil, []string{"todo"}
	}
	_, err := s.session(ctx, hash, u, "postponement")
	return err
}

// State is one opening of a connect link: what the callback must find again.
type State struct {
	Hash        string // key: Hash of the state parameter
	Session     string // key of its session
	Integration string
	Client      string
	ClientID    string
	Cookie      string     // Hash of the browser-binding cookie
	Verifier    item.Bytes // sealed PKCE verifier, "" without PKCE
	SessionID   item.Bytes // the session's id, sealed: it goes back to the application
	Nonce       string     // hash of the nonce of an ID token, "" where none was asked for
	RedirectURI string
	CreatedAt   int64
	ExpiresAt   int64
}

// PutState stores a new opening.
func (s Store) PutState(ctx context.Context, st State) error {
	u := item.Update{Target: item.Absent, Set: []item.Assign{
		item.Put("kind", "state"), item.Put("session", st.Session), item.Put("integration", st.Integration),
		item.Put("client", st.Client), item.Put("client_id", st.ClientID), item.Put("cookie", st.Cookie),
		item.Put("redirect_uri", st.RedirectURI), item.Put("session_id", st.SessionID), item.Put("created_at", st.CreatedAt),
		item.Put("expires_at", st.ExpiresAt), item.Put("ttl", st.ExpiresAt),
	}}
	if st.Verifier != "" {
		u.Set = append(u.Set, item.Put("verifier", st.Verifier))
	}
	if st.Nonce != "" {
		u.Set = append(u.Set, item.Put("nonce", st.Nonce))
	}
	_, err := s.Authorizations.Update(ctx, st.Hash, u)
	return err
}

// TakeState returns an opening and deletes it in the same act, so that a replayed
// callback finds ErrNotFound, as does one whose time is over: deletion by TTL may
// be days late and is not trusted.
func (s Store) TakeState(ctx context.Context, hash string, now int64) (State, error) {
	res, err := s.Authorizations.Delete(ctx, hash, item.Eq("kind", "state"), item.Gt("expires_at", now))
	if err != nil {
		return State{}, fmt.Errorf("take state: %w", err)
	}
	if !res.Applied {
		return State{}, fmt.Errorf("state: %w", ErrNotFound)
	}
	i := res.Item
	return State{
		Hash: hash, Session: i.String("session"), Integration: i.String("integration"), Client: i.String("client"),
		ClientID: i.String("client_id"), Cookie: i.String("cookie"), Verifier: i.Bytes("verifier"), SessionID: i.Bytes("session_id"),
		Nonce: i.String("nonce"), RedirectURI: i.String("redirect_uri"), CreatedAt: i.Int("created_at"), ExpiresAt: i.Int("expires_at"),
	}, nil
}

// Code is an authorization code that awaits the backend's confirmation.
type Code struct {
	Hash        string // key: Hash of the confirm token
	Session     string
	Client      string
	ClientID    string
	Code        item.Bytes // sealed
	Verifier    item.Bytes // sealed, as it stood in the state (bound to that state's key)
	State       string     // key of that state
	Nonce       string     // as it stood there
	RedirectURI string
	Fields      map[string]string // what the callback told besides (realm, …)
	CreatedAt   int64
	ExpiresAt   int64
}

// PutCode stores a code under the hash of its confirm token.
func (s Store) PutCode(ctx context.Context, c Code) error {
	u := item.Update{Target: item.Absent, Set: []item.Assign{
		item.Put("kind", "code"), item.Put("session", c.Session), item.Put("client", c.Client), item.Put("client_id", c.ClientID),
		item.Put("code", c.Code), item.Put("state", c.State), item.Put("redirect_uri", c.RedirectURI),
		item.Put("created_at", c.CreatedAt), item.Put("expires_at", c.ExpiresAt), item.Put("ttl", c.ExpiresAt),
	}}
	if c.Verifier != "" {
		u.Set = append(u.Set, item.Put("verifier", c.Verifier))
	}
	if c.Nonce != "" {
		u.Set = append(u.Set, item.Put("nonce", c.Nonce))
	}
	if m := item.StringMap(c.Fields); m != nil {
		u.Set = append(u.Set, item.Put("fields", m))
	}
	_, err := s.Authorizations.Update(ctx, c.Hash, u)
	return err
}

// SpendCode returns a code of the session and deletes it in the same act.
// ErrNotFound where there is none, where it is another session's, or where its time
// is over.
func (s Store) SpendCode(ctx context.Context, hash, session string, now int64) (Code, error) {
	res, err := s.Authorizations.Delete(ctx, hash, item.Eq("kind", "code"), item.Eq("session", session), item.Gt("expires_at", now))
	if err != nil {
		return Code{}, fmt.Errorf("take code: %w", err)
	}
	if !res.Applied {
		return Code{}, fmt.Errorf("code: %w", ErrNotFound)
	}
	i := res.Item
	return Code{
		Hash: hash, Session: session, Client: i.String("client"), ClientID: i.String("client_id"), Code: i.Bytes("code"),
		Verifier: i.Bytes("verifier"), State: i.String("state"), Nonce: i.String("nonce"), RedirectURI: i.String("redirect_uri"),
		Fields: i.Map("fields").Strings(), CreatedAt: i.Int("created_at"), ExpiresAt: i.Int("expires_at"),
	}, nil
}

// DropCodes deletes codes that another confirmation has overtaken. They would expire
// by themselves, so an error is not one.
func (s Store) DropCodes(ctx context.Context, keys []string) {
	for _, key := range keys {
		_, _ = s.Authorizations.Delete(ctx, key, item.Eq("kind", "code"))
	}
}

// JoinScopes makes one space-separated text of scopes, each once, in order.
func JoinScopes(lists ...[]string) string {
	var out []string
	seen := map[string]bool{}
	for _, list := range lists {
		for _, sc := range list {
			if sc != "" && !seen[sc] {
				seen[sc] = true
				out = append(out, sc)
			}
		}
	}
	return strings.Join(out, " ")
}
