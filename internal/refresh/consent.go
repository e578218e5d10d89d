package refresh

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// ConsentInput is one attempt to turn a code into a connection, or to finish one
// whose answer is already safe in its session.
type ConsentInput struct {
	Session string // key of the session
	Take    connection.Take
	// Reconnect is the connection to be reconnected, "" for a new one.
	Reconnect          string
	DisconnectGen      int64 // of that connection when the session was made
	AllowAccountChange bool
	Exchanged          bool   // the session holds the answer: finish it
	Ended              bool   // the session has ended: supersede, and take it off the list
	Result             string // of an ended one: the connection that came of it
	Seq                int64  // its consent number
	ExchangedAt        int64  // s
	MayList            bool   // this role may look for connections to supersede
	HasIdentity        bool   // the entry says where the account's id is read
	HasIDToken         bool   // else an ID token tells it, if one comes
}

// Account is whose account it is, as the provider said.
type Account struct{ ID, Name string }

// ConsentOutcome is how a consent ended.
type ConsentOutcome int

// The outcomes of a consent.
const (
	Connected        ConsentOutcome = iota
	NotAwaiting                     // the session awaits no code, or another has taken it
	ConsentUnknown                  // the store did not answer before anything was sent
	ExchangeRefused                 // the code or the client was refused, or the answer is of no use
	ExchangeLost                    // the answer to the exchange was lost: start again
	AnswerUnsaved                   // exchanged, and the store did not take it
	Unfinished                      // exchanged and safe; something failed that the tick will finish
	IdentityPending                 // exchanged and safe; the account must be read first
	MismatchKept                    // another account: kept apart as a connection of its own
	NoRefreshToken                  // nothing is joined; the connection goes on as it was
	ConsentOvertaken                // a later consent was stored: that one counts
	ConsentGone                     // disconnected meanwhile
)

type consentStep int

const (
	consentStart consentStep = iota
	consentTake
	consentNumber
	consentExchange
	consentSave
	consentPause
	consentIdentity
	consentRead
	consentJoin
	consentCreate
	consentRevoke
	consentEnd
	consentResult
	consentSupersede
	consentFinish
	consentFail
	consentOver
)

// ConsentState is the comparable state of one consent.
type ConsentState struct {
	Step      consentStep
	In        ConsentInput
	Seq       int64
	Answer    provider.Answer
	Until     int64 // ms: when the present save gives up
	Tries     int
	Account   Account
	Known     bool            // the account was read
	Unread    bool            // it could not be read now; later perhaps
	Core      connection.Core // of the connection to reconnect, as last found
	Read      bool
	Result    string // the id that came of it
	Code      string // problem code with which the session ends, "" for connected
	Outcome   ConsentOutcome
	Exchanged int64 // s
}

// ConsentKind is what a consent's effect does.
type ConsentKind int

// The effects of a consent.
const (
	ConsentDone      ConsentKind = iota
	ConsentTake                  // write TakeCode
	ConsentDraw                  // write ConsentNumber
	ConsentExchange              // one token request with the code
	ConsentFailTake              // write FailTake with Code
	ConsentSave                  // write Exchanged (sealed once)
	ConsentPause                 // wait Pause ms
	ConsentIdentity              // read the account with the new access token, or of the ID token, 3 s at most
	ConsentRead                  // read the connection to reconnect, or the Result of an ended session
	ConsentCreate                // put a new connection under Take.Connection
	ConsentJoin                  // write Consent for generation Gen
	ConsentAccess                // write ConsentAccess for generation Gen
	ConsentRevoke                // revoke the new tokens
	ConsentEnd                   // write EndSession with Code and Result
	ConsentSupersede             // end the older connections of the same account
	ConsentFinish                // take the session off the tick's list
)

// ConsentEffect is one thing for the driver to do.
type ConsentEffect struct {
	Kind        ConsentKind
	Gen         int64
	DropRefresh bool
	Pause       int64 // ms
	Code        string
	Outcome     ConsentOutcome
}

// ConsentResult is what came of the effect before.
type ConsentResult struct {
	Now     int64 // ms
	Failed  bool  // store, provider or key service did not answer
	Applied bool
	Found   bool
	Session connection.SessionState // of session writes: as found
	Take    string                  // of session writes: the take's id as found
	Core    connection.Core
	Answer  provider.Answer
	Account Account
}

// BeginConsent is the state before a consent.
func BeginConsent(in ConsentInput) ConsentState {
	return ConsentState{In: in, Seq: in.Seq, Exchanged: in.ExchangedAt}
}

// NextConsent takes the result of the last effect and says what to do next.
func NextConsent(s ConsentState, r ConsentResult) (ConsentState, ConsentEffect) {
	switch s.Step {
	case consentStart:
		switch {
		case s.In.Ended && s.In.Result != "":
			return s.do(consentResult, ConsentRead)
		case s.In.Ended:
			return s.do(consentFinish, ConsentFinish)
		case s.In.Exchanged:
			return s.identify()
		}
		return s.do(consentTake, ConsentTake)
	case consentTake:
		return s.taken(r)
	case consentNumber:
		return s.numbered(r)
	case consentExchange:
		return s.exchanged(r)
	case consentSave, consentPause:
		return s.kept(r)
	case consentIdentity:
		return s.identified(r)
	case consentRead, consentJoin:
		return s.joined(r)
	case consentCreate:
		return s.created(r)
	case consentRevoke:
		if r.Failed {
			return s.done(Unfinished) // the tokens stay in the session, and the tick tries again
		}
		return s.do(consentEnd, ConsentEnd)
	case consentResult:
		return s.looked(r)
	case consentEnd:
		return s.ended(r)
	case consentSupersede:
		if r.Failed {
			return s.done(s.Outcome) // it is connected; the tick supersedes
		}
		return s.do(consentFinish, ConsentFinish)
	}
	return s.done(s.Outcome)
}

func (s ConsentState) do(step consentStep, kind ConsentKind) (ConsentState, ConsentEffect) {
	s.Step = step
	return s, ConsentEffect{Kind: kind, Code: s.Code}
}

func (s ConsentState) done(o ConsentOutcome) (ConsentState, ConsentEffect) {
	s.Step, s.Outcome = consentOver, o
	return s, ConsentEffect{Kind: ConsentDone, Outcome: o}
}

// fail ends the take without an exchange's tokens.
func (s ConsentState) fail(o ConsentOutcome, code string) (ConsentState, ConsentEffect) {
	s.Outcome, s.Code = o, code
	return s.do(consentFail, ConsentFailTake)
}

// end ends the exchanged session.
func (s ConsentState) end(o ConsentOutcome, code, result string) (ConsentState, ConsentEffect) {
	s.Outcome, s.Code, s.Result = o, code, result
	return s.do(consentEnd, ConsentEnd)
}

func (s ConsentState) taken(r ConsentResult) (ConsentState, ConsentEffect) {
	switch {
	case r.Failed:
		return s.done(ConsentUnknown) // a take that was applied all the same runs out and reads as failed
	case !r.Applied && (!r.Found || r.Take != s.In.Take.ID):
		return s.done(NotAwaiting)
	case s.In.Reconnect != "":
		return s.do(consentNumber, ConsentDraw)
	}
	return s.do(consentExchange, ConsentExchange)
}

// numbered goes on to the exchange with the fencing number, unless the connection
// was disconnected since its session was made.
func (s ConsentState) numbered(r ConsentResult) (ConsentState, ConsentEffect) {
	switch {
	case r.Failed:
		return s.fail(ConsentUnknown, "restart_connect")
	case !r.Applied:
		return s.fail(ConsentGone, "disconnected")
	}
	s.Seq = r.Core.ConsentNext
	return s.do(consentExchange, ConsentExchange)
}

func (s ConsentState) exchanged(r ConsentResult) (ConsentState, ConsentEffect) {
	s.Answer = r.Answer
	switch a := r.Answer; {
	case a.Verdict == provider.VerdictOK:
		s.Until, s.Exchanged = r.Now+SaveTime, r.Now/1000
		return s.do(consentSave, ConsentSave)
	case a.Verdict == provider.VerdictConfigError:
		return s.fail(ExchangeRefused, "integration_suspended")
	case a.Verdict == provider.VerdictNeedsReauth:
		return s.fail(ExchangeRefused, "restart_connect")
	}
	// A code is sent once, and what came of it is not ours to know; nor is one kept that
	// the provider had no time for.
	return s.fail(ExchangeLost, "restart_connect")
}

// kept repeats the save of the answer until it is applied or its time is over.
func (s ConsentState) kept(r ConsentResult) (ConsentState, ConsentEffect) {
	switch {
	case s.Step == consentPause:
		return s.do(consentSave, ConsentSave)
	case r.Failed && r.Now < s.Until:
		s.Tries++
		s, e := s.do(consentPause, ConsentPause)
		e.Pause = min(int64(50)<<min(s.Tries-1, 5), 1000)
		return s, e
	case r.Failed:
		return s.done(AnswerUnsaved)
	case !r.Applied && (r.Take != s.In.Take.ID || r.Session != connection.SessionExchanged):
		return s.done(NotAwaiting) // our take ran out and another began: drop
	}
	return s.identify()
}

func (s ConsentState) identify() (ConsentState, ConsentEffect) {
	if s.In.HasIdentity || s.In.HasIDToken && !s.Answer.IDToken.IsZero() {
		return s.do(consentIdentity, ConsentIdentity)
	}
	return s.place()
}

func (s ConsentState) identified(r ConsentResult) (ConsentState, ConsentEffect) {
	s.Account, s.Known, s.Unread = r.Account, !r.Failed && r.Account.ID != "", r.Failed
	return s.place()
}

func (s ConsentState) place() (ConsentState, ConsentEffect) {
	if s.In.Reconnect == "" {
		return s.apart(Connected, "")
	}
	return s.do(consentRead, ConsentRead)
}

// apart keeps the answer as a connection of its own. Its id was drawn at the take,
// so that a repeat finds it done.
func (s ConsentState) apart(o ConsentOutcome, code string) (ConsentState, ConsentEffect) {
	s.Outcome, s.Code, s.Result = o, code, s.In.Take.Connection
	return s.do(consentCreate, ConsentCreate)
}

func (s ConsentState) created(r ConsentResult) (ConsentState, ConsentEffect) {
	if r.Failed {
		return s.done(Unfinished)
	}
	return s.do(consentEnd, ConsentEnd) // applied, or done before
}

// looked finds the account of a connection that is stored already: what is superseded
// for it must be older than this very consent. The answer is gone from the session.
func (s ConsentState) looked(r ConsentResult) (ConsentState, ConsentEffect) {
	c := r.Core
	switch {
	case r.Failed:
		return s.done(Unfinished)
	case !r.Found, c.Status == connection.Disconnected, c.AccountID == "", c.ConsentedAt != s.Exchanged:
		return s.do(consentFinish, ConsentFinish) // nothing to supersede, or it is a later consent's to do
	}
	s.Result, s.Account, s.Known = c.ID, Account{ID: c.AccountID}, true
	return s.do(consentSupersede, ConsentSupersede)
}

// joined judges the connection as it was just found, before every write of it: what
// is known of its account, its client and its tokens may have changed since the last
// look, and no record may hold two tokens of different accounts or clients.
func (s ConsentState) joined(r ConsentResult) (ConsentState, ConsentEffect) {
	if r.Failed {
		return s.done(Unfinished)
	}
	if s.Step == consentJoin && r.Applied {
		return s.end(Connected, "", s.In.Reconnect)
	}
	c := r.Core
	switch {
	case !r.Found:
		return s.gone()
	case c.ConsentSeq == s.Seq:
		return s.end(Connected, "", s.In.Reconnect) // our own write was applied before
	case s.overtakenByEnd(c) && c.Reason != connection.Superseded:
		return s.gone()
	case s.overtakenByEnd(c):
		return s.end(ConsentGone, "disconnected", "") // superseded: never revoke
	case c.ConsentSeq > s.Seq:
		return s.end(ConsentOvertaken, "", s.In.Reconnect)
	}
	s.Core = c
	if s.In.AllowAccountChange && s.Known {
		return s.join(c)
	}
	switch {
	case c.AccountID != "" && !s.Known && s.Unread && r.Now/1000 < s.Exchanged+identityWait:
		return s.done(IdentityPending)
	case c.AccountID != "" && !s.Known, c.AccountID != "" && s.Account.ID != c.AccountID:
		return s.apart(MismatchKept, "account_mismatch")
	}
	return s.join(c)
}

// overtakenByEnd reports whether the connection was ended after this consent began: by
// a disconnect, which draws a number, or as a refused import, which draws none.
func (s ConsentState) overtakenByEnd(c connection.Core) bool {
	return c.Status == connection.Disconnected && (c.ConsentSeq > s.Seq || c.DisconnectGen > s.In.DisconnectGen)
}

// identityWait is how long a reconnect waits for the account to be readable, s.
const identityWait = 3600

func (s ConsentState) join(c connection.Core) (ConsentState, ConsentEffect) {
	e := ConsentEffect{Kind: ConsentJoin, Gen: c.Gen}
	if s.Answer.RefreshToken.IsZero() && c.Refresh != "" {
		proved := s.Known && c.AccountID == s.Account.ID && c.ClientID == s.In.Take.ClientID
		if !proved || c.Status != connection.Active {
			return s.end(NoRefreshToken, "no_refresh_token", "")
		}
		e.Kind = ConsentAccess
	}
	e.DropRefresh = s.Answer.RefreshToken.IsZero() && e.Kind == ConsentJoin
	s.Step = consentJoin
	return s, e
}

// gone: the connection was disconnected (or erased) since; what arrived is revoked.
func (s ConsentState) gone() (ConsentState, ConsentEffect) {
	s.Outcome, s.Code = ConsentGone, "disconnected"
	return s.do(consentRevoke, ConsentRevoke)
}

func (s ConsentState) ended(r ConsentResult) (ConsentState, ConsentEffect) {
	if r.Failed {
		return s.done(Unfinished)
	}
	if !s.In.MayList {
		return s.done(s.Outcome) // the tick supersedes
	}
	if s.Known && (s.Outcome == Connected || s.Outcome == MismatchKept) {
		return s.do(consentSupersede, ConsentSupersede)
	}
	return s.do(consentFinish, ConsentFinish)
}
