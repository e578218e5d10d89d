package broker

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
)

// Where no return address carries the confirm token back, a person does: the last page
// shows a short code, and it is typed over. The token is then the session's id and the
// code together, so that the code is good in its own session alone and the stored hash
// cannot be tried out by whoever reads the table. The session's id keeps strangers
// away; the few tries keep whoever has the id, and not the page, from guessing.
const (
	// typedAlphabet has no vowels, which might make words, and no digits, which look like
	// letters (RFC 8628 section 6.1).
	typedAlphabet = "BCDFGHJKLMNPQRSTVWXZ"
	typedLength   = 8 // 34.5 bits
	typedTries    = 5 // of a session, whatever becomes of its codes
)

// newTyped draws a code as it is shown: two groups of four.
func newTyped() string {
	var code []byte
	for b := make([]byte, 1); len(code) < typedLength; {
		_, _ = rand.Read(b)
		if n := int(b[0]); n < 256/len(typedAlphabet)*len(typedAlphabet) { // else the first letters would be likelier
			code = append(code, typedAlphabet[n%len(typedAlphabet)])
		}
	}
	return string(code[:typedLength/2]) + "-" + string(code[typedLength/2:])
}

// typedConfirm is the confirm token that a typed code stands for. Case, blanks and
// hyphens are how people type.
func typedConfirm(session, typed string) secret.Text {
	code := strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	return secret.New(session + " " + code)
}

// typesConfirm reports whether the session's confirm token is typed over.
func typesConfirm(sess connection.Session) bool { return sess.ReturnTo == "" && !sess.Public }

// countTry counts a try before it is looked at, so that any number of tries at once
// are not more than those in a row. It returns how many are left after this one.
func (b *Broker) countTry(ctx context.Context, sess connection.Session) (left int64, refused *Error) {
	for sess.Tries < typedTries {
		res, err := b.Store.CountTry(ctx, sess)
		switch {
		case err != nil:
			return 0, internal(err)
		case res.Applied:
			return typedTries - res.Session.Tries, nil
		case !res.Found || res.Session.Tries == sess.Tries:
			return 0, fail(RestartConnect, "this connect session is over: begin a new one")
		}
		sess = res.Session // another try was counted meanwhile
	}
	return 0, tooManyTries()
}

func tooManyTries() *Error {
	return fail(RestartConnect, "%d wrong codes have ended this connect session: begin a new one", typedTries)
}

// wrongTry refuses a code that is none of the session's. The last wrong one ends it.
func (b *Broker) wrongTry(ctx context.Context, sess connection.Session, left int64) *Error {
	if left > 0 {
		tries := "tries are"
		if left == 1 {
			tries = "try is"
		}
		return fail(InvalidRequest, "that is not the code of the last page, or its time is over: %d %s left. Opening the link again shows a new code", left, tries)
	}
	if _, err := b.Store.EndTries(ctx, sess.Hash, string(RestartConnect), b.now()); err != nil {
		b.Log.Warn("confirm", "integration", sess.Integration, "error", err.Error())
	}
	b.Store.DropCodes(ctx, sess.Codes)
	b.Log.Warn("connect session ended by wrong codes", "integration", sess.Integration, "caller", sess.Key)
	return tooManyTries()
}
