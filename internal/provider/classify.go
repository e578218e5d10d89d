package provider

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/evergrant/evergrant/internal/secret"
)

// Failure is how an exchange broke before an answer was there.
type Failure string

// The failures. Only the first two leave open whether the provider has acted.
const (
	FailureTimeout     Failure = "timeout"      // no time left after something was sent
	FailureResetAfter  Failure = "reset_after"  // the connection broke after something was sent
	FailureResetBefore Failure = "reset_before" // nothing was sent
	FailureTLS         Failure = "tls"          // the handshake did not succeed
	FailureDNS         Failure = "dns"          // the host was not found
	FailureAddress     Failure = "address"      // the host has an address that we do not dial
)

// Outcome is what the network made of a token request: a Failure, or an answer.
type Outcome struct {
	Failure Failure // "": there is an answer
	Status  int
	Header  http.Header
	Body    []byte // as on the wire, still compressed
	Short   bool   // the connection ended, or reading was given up, within the body
}

// maxToken bounds a token, bytes: a longer one could not be stored.
const maxToken = 1 << 16

// maxScope bounds what an answer says of its scope, bytes. A longer one is not kept: it
// would keep the tokens beside it from being stored.
const maxScope = 1 << 14

// Classify says what an outcome means. It is a pure function; now is when the
// answer arrived.
func Classify(e Entry, req Request, o Outcome, now time.Time) Answer {
	return classify(e, req, o, now, req.Code, req.CodeVerifier, req.RefreshToken)
}

// classify is Classify with the secrets that the provider may echo.
func classify(e Entry, req Request, o Outcome, now time.Time, known ...secret.Text) Answer {
	c := &classification{entry: e, req: req, status: o.Status, now: now}
	if req.Grant == GrantRefreshToken {
		c.answer.RefreshToken = req.RefreshToken
	}
	switch {
	case o.Failure == FailureAddress:
		c.end(VerdictConfigError, false, "the token endpoint has an address that is not allowed")
	case o.Failure != "":
		lost := o.Failure == FailureTimeout || o.Failure == FailureResetAfter
		c.end(VerdictRetry, lost, "no answer: "+string(o.Failure))
	case o.Status/100 == 3:
		// A redirect of a token request leads secrets away; nothing of it is read.
		c.end(VerdictConfigError, false, "the token endpoint redirects")
	default:
		c.read(readBody(o.Header, o.Body, o.Short))
		c.byStatus(o.Header)
		c.answer.Error = scrub(c.answer.Error, maxCode, known)
		c.answer.Detail = scrub(c.answer.Detail, maxDetail, append(known, c.answer.RefreshToken))
	}
	c.answer.RetryAfter = NoRetryAfter
	if c.answer.Verdict == VerdictRetry && o.Failure == "" {
		c.answer.RetryAfter = retryAfter(o.Header.Get("Retry-After"), now)
		c.answer.Throttled = o.Status == http.StatusTooManyRequests ||
			o.Status == http.StatusServiceUnavailable && c.answer.RetryAfter != NoRetryAfter
	}
	return c.answer
}

// classification is the state of one Classify: the answer as read, and the
// Answer as far as it is known.
type classification struct {
	entry  Entry
	req    Request
	status int
	now    time.Time

	top, nested *object // nested: the object at TokenPath, if there is one
	garbage     bool

	answer Answer
}

func (c *classification) read(b content) {
	c.top, c.garbage = b.top, b.garbage
	if c.entry.TokenPath != "" {
		c.nested, _ = c.top.at(c.entry.TokenPath).(*object)
	}
}

// end sets the verdict; detail is our own text, for where the provider gives none
// or did not mean to describe an error.
func (c *classification) end(v Verdict, lost bool, detail string) {
	c.answer.Verdict, c.answer.ResponseLost = v, lost
	if c.answer.Detail == "" || v == VerdictMalformed || v == VerdictOK {
		c.answer.Detail = detail
	}
}

func (c *classification) byStatus(h http.Header) {
	code := ""
	if !c.garbage {
		code = c.code()
	}
	c.answer.Detail = c.description()
	switch s := c.status; {
	case s/100 == 2:
		c.success(code)
	case s == http.StatusRequestTimeout || s >= 500 || s < 200:
		// "Not acted" is not to be had from these: a gateway answers for a server
		// that may have finished. Tokens in such a body are not used.
		c.answer.Error = code
		c.end(VerdictRetry, true, "HTTP status "+strconv.Itoa(s))
	case slices.Contains([]int{http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests}, s):
		c.answer.Error = code
		c.end(VerdictRetry, false, "HTTP status "+strconv.Itoa(s))
	default:
		if code == "" {
			code = challengeCode(h.Values("WWW-Authenticate"))
		}
		c.refusal(code)
	}
}

// refusal judges a 4xx.
func (c *classification) refusal(code string) {
	detail := "HTTP status " + strconv.Itoa(c.status)
	switch {
	case code != "":
		c.byCode(code)
	case c.req.Grant == GrantAuthorizationCode && c.status == c.entry.CodeReuseStatus:
		c.answer.Error = "invalid_grant"
		c.end(VerdictNeedsReauth, false, detail)
	case slices.Contains(c.entry.RetryStatus, c.status):
		c.end(VerdictRetry, false, detail)
	case c.status == http.StatusUnauthorized:
		c.answer.Error = "invalid_client"
		c.end(VerdictConfigError, false, detail)
	case c.status == http.StatusForbidden:
		// Firewalls answer so, in HTML; that is no word of the provider's.
		c.end(VerdictRetry, false, detail)
	default:
		c.end(VerdictConfigError, false, detail)
	}
}

func (c *classification) byCode(code string) {
	c.answer.Error = code
	v, lost := c.judge(code)
	c.end(v, lost, "HTTP status "+strconv.Itoa(c.status))
}

// tokens returns the object that holds the tokens.
func (c *classification) tokens() *object {
	if c.nested.get("access_token") != nil {
		return c.nested
	}
	return c.top
}

// success judges a 2xx, of which servers send errors too.
func (c *classification) success(code string) {
	from := c.tokens()
	refresh, illegal := c.refreshFrom(from)
	c.keepRefresh(refresh)
	access := from.text("access_token")
	switch {
	case code != "":
		c.byCode(code)
	case c.top == nil:
		c.end(VerdictMalformed, true, "unreadable answer")
	case c.garbage:
		c.end(VerdictMalformed, true, "bytes after the answer")
	case c.errorPresent():
		c.end(VerdictMalformed, true, "error without a code")
	case from.repeats("access_token") || refresh.repeats("refresh_token"):
		c.end(VerdictMalformed, true, "a token is given twice")
	case !legalToken(access, 0x21):
		c.end(VerdictMalformed, true, "no usable access token")
	case !c.bearer(from.get("token_type")):
		c.end(VerdictMalformed, true, "unusable token type")
	default:
		c.end(VerdictOK, illegal && c.req.Grant != GrantClientCredentials, "")
		c.grant(from, access)
	}
}

// refreshFrom returns the object whose refresh token counts, and whether one was
// present that is not legal while none is: then the old one may be spent. Tokens
// at the top may have their refresh token in the nested object.
func (c *classification) refreshFrom(from *object) (o *object, illegal bool) {
	o = from
	if c.nested != nil && legalToken(c.nested.text("refresh_token"), 0x20) {
		o = c.nested
	}
	if legalToken(o.text("refresh_token"), 0x20) {
		return o, false
	}
	return o, !absentToken(o.get("refresh_token")) || (c.nested != nil && !absentToken(c.nested.get("refresh_token")))
}

// keepRefresh keeps the refresh token of o, whatever the verdict will be: at a
// provider that rotates it may be the only one alive. One given twice is not
// kept, since nobody can say which of the two is meant.
func (c *classification) keepRefresh(o *object) {
	s := o.text("refresh_token")
	if c.req.Grant == GrantClientCredentials || !legalToken(s, 0x20) || o.repeats("refresh_token") {
		return
	}
	c.answer.RefreshTokenArrived = true
	if t := secret.New(s); !t.Equal(c.answer.RefreshToken) {
		c.answer.RefreshToken = t
	}
}

// grant fills in what an answer tells with a usable access token.
func (c *classification) grant(from *object, access string) {
	a := &c.answer
	a.AccessToken, a.TokenType = secret.New(access), "Bearer"
	a.ExpiresIn = c.life(from)
	scope := c.scope(from)
	if text := strings.Join(scope, " "); text != "" && len(text) <= maxScope {
		a.ScopeKnown, a.Scope = true, text
	}
	for _, o := range []*object{from, c.top} {
		if id := o.text("id_token"); a.IDToken.IsZero() && legalToken(id, 0x21) {
			a.IDToken = secret.New(id)
		}
	}
	for _, key := range []string{"refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"} {
		if n, ok := seconds(from.get(key)); ok && a.RefreshTokenExpiresIn == 0 {
			a.RefreshTokenExpiresIn = usable(n)
		}
	}
	if c.entry.Refresh.Credential == hintAccess {
		// The access token is what the next refresh sends.
		a.RefreshToken, a.RefreshTokenArrived, a.RefreshTokenExpiresIn = a.AccessToken, true, a.ExpiresIn
	}
	a.Fields, a.SecretFields = c.entry.keepFrom(c.top)
}

// bearer reports whether a token_type lets the token be used as a Bearer token.
func (c *classification) bearer(v any) bool {
	s, ok := v.(string)
	if v == nil || s == "" && ok || strings.EqualFold(s, "bearer") {
		return true
	}
	return ok && slices.ContainsFunc(c.entry.AcceptTokenTypes, func(t string) bool { return strings.EqualFold(s, t) })
}

// legalToken reports whether s can be stored and put into a header: 1…65536 bytes
// from lowest to 0x7E.
func legalToken(s string, lowest byte) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if s[i] < lowest || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// absentToken reports whether a refresh_token says that there is none.
func absentToken(v any) bool { return v == nil || v == false || v == "" }

// scope returns the granted scope; where the answer does not say, the requested
// one (RFC 6749 section 5.1).
func (c *classification) scope(from *object) []string {
	for _, key := range []string{"scope", "scopes"} {
		if s := c.splitScope(from.get(key)); len(s) > 0 {
			return s
		}
	}
	var asked []string
	for _, s := range c.req.Scope {
		asked = append(asked, c.splitScope(s)...)
	}
	return distinct(asked)
}

func (c *classification) splitScope(v any) []string {
	switch v := v.(type) {
	case string:
		if c.entry.ScopeSeparator == "" {
			return distinct(strings.Fields(v))
		}
		return distinct(strings.Split(v, c.entry.ScopeSeparator))
	case []any:
		var list []string
		for _, x := range v {
			s, _ := x.(string)
			list = append(list, s)
		}
		return distinct(list)
	}
	return nil
}

// distinct trims, and drops empties and repeats.
func distinct(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// description returns the provider's words about an error.
func (c *classification) description() string {
	nested, _ := c.top.get("error").(*object)
	for _, o := range []*object{c.top, nested, c.nested} {
		for _, key := range descriptions() {
			if s := o.text(key); s != "" {
				return s
			}
		}
	}
	return ""
}

// maxDetail bounds Answer.Detail, characters.
const maxDetail = 200

// scrub makes a provider's text fit to be shown: without the secrets, printable
// (bidirectional controls are not), cut to limit characters. It replaces before it
// cuts, so that no half of a secret stays.
func scrub(s string, limit int, known []secret.Text) string {
	for _, k := range known {
		if k.IsZero() {
			continue
		}
		s = strings.ReplaceAll(s, k.Reveal(), secret.Redacted)
		s = strings.ReplaceAll(s, url.QueryEscape(k.Reveal()), secret.Redacted)
	}
	runes := []rune(s)
	runes = runes[:min(len(runes), limit)]
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = ' '
		}
	}
	return string(runes)
}
