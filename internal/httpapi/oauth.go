package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// tokenPath is the token endpoint for software that insists on refreshing by itself
// (RFC 6749 section 3.2). It knows one grant: the refresh by a stand-in.
const tokenPath = "/oauth/token" // #nosec G101 -- a path

// The errors of the endpoint: those of RFC 6749 section 5.2, and two that its section
// 4.1.2.1 defines for what passes.
const (
	oauthInvalidRequest   broker.Code = "invalid_request"
	oauthInvalidClient    broker.Code = "invalid_client"
	oauthInvalidGrant     broker.Code = "invalid_grant"
	oauthUnsupportedGrant broker.Code = "unsupported_grant_type"
	oauthInvalidScope     broker.Code = "invalid_scope"
	oauthUnavailable      broker.Code = "temporarily_unavailable"
	oauthServerError      broker.Code = "server_error"
)

func refuse(code broker.Code, detail string) error { return &broker.Error{Code: code, Detail: detail} }

// oauthToken is POST /oauth/token. Who asks is known by the stand-in alone; a client
// authentication may come in whatever form the software has and is looked at only
// where the stand-in was made with a client.
func (x *exchange) oauthToken() (answer, error) {
	form, err := x.form()
	if err != nil {
		return answer{}, err
	}
	switch grant := form.Get("grant_type"); grant {
	case "refresh_token":
	case "":
		return answer{}, refuse(oauthInvalidRequest, "grant_type is required: refresh_token.")
	default:
		return answer{}, refuse(oauthUnsupportedGrant, "This endpoint takes grant_type refresh_token with a stand-in of evergrant stand-in new, and nothing else.")
	}
	request := broker.StandInRequest{Token: secret.New(form.Get("refresh_token")), Scopes: strings.Fields(form.Get("scope"))}
	if request.Token.IsZero() {
		return answer{}, refuse(oauthInvalidRequest, "refresh_token is required: a stand-in of evergrant stand-in new.")
	}
	request.ClientID, request.ClientSecret = x.clientOf(form)
	t, by, err := x.Broker.StandInToken(x.r.Context(), request)
	if by.ID != "" {
		x.caller.Name = by.ID
	}
	switch {
	case errors.Is(err, broker.ErrStandIn), errors.Is(err, broker.ErrStandInClient):
		return answer{}, x.strangerRefused(err)
	case err != nil:
		return answer{}, err
	}
	a, err := reply(http.StatusOK, oauthTokenOf(t, request.Token, x.Now().Unix()))
	a.header = map[string]string{"Pragma": "no-cache"} // RFC 6749 section 5.1
	return a, err
}

func oauthTokenOf(t broker.TokenView, standIn secret.Text, now int64) wire.OAuthToken {
	out := wire.OAuthToken{AccessToken: t.AccessToken.Reveal(), TokenType: t.TokenType, RefreshToken: standIn.Reveal(), Scope: t.Scope}
	if out.TokenType == "" {
		out.TokenType = "Bearer" // required (RFC 6749 section 5.1), and what a provider means that tells none
	}
	if t.UseUntil != 0 {
		// Never 0: x/oauth2 and its kin read that as a token that does not expire.
		out.ExpiresIn = max(t.UseUntil-now, 1)
	}
	return out
}

// strangerRefused is the refusal of a stand-in that is none, or shown by another
// client. Only these count against their source.
func (x *exchange) strangerRefused(err error) error {
	if wait, over := x.failures.over(source(x.r.RemoteAddr), x.Now()); over {
		return &broker.Error{Code: broker.RateLimited, RetryAfter: wait, Detail: "Too many requests without a valid stand-in came from this address."}
	}
	if errors.Is(err, broker.ErrStandInClient) {
		return refuse(oauthInvalidClient, "This stand-in was made with a client: send the client_id and client_secret that were shown with it.")
	}
	return refuse(oauthInvalidGrant, "This refresh token is no stand-in of Evergrant, was revoked, or its connection was disconnected. evergrant stand-in new makes another.")
}

// form reads the request's parameters. They come in the body and nowhere else: a query
// gets into logs (RFC 6749 section 3.2: parameters without a value count as absent,
// none may be repeated, unknown ones are ignored).
func (x *exchange) form() (url.Values, error) {
	media, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || x.r.Header.Get("Content-Encoding") != "" {
		return nil, refuse(oauthInvalidRequest, "Send the parameters as Content-Type: application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
	if err != nil {
		return nil, refuse(oauthInvalidRequest, "The body ended early.")
	}
	if len(body) > maxBody {
		return nil, refuse(oauthInvalidRequest, "A body has 64 KiB at most.")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(oauthInvalidRequest, "The body is not encoded correctly.")
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, refuse(oauthInvalidRequest, "A parameter occurs twice.")
		}
	}
	return form, nil
}

// clientOf is what the request says of its client: by Basic, whose two parts are
// form-encoded (RFC 6749 section 2.3.1), else in the body.
func (x *exchange) clientOf(form url.Values) (id string, key secret.Text) {
	id, pass, ok := x.r.BasicAuth()
	if !ok {
		return form.Get("client_id"), secret.New(form.Get("client_secret"))
	}
	return formDecoded(id), secret.New(formDecoded(pass))
}

func formDecoded(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// oauthError is e in the words of RFC 6749 section 5.2.
func oauthError(x *exchange, e *broker.Error) answer {
	code, status := oauthCode(e.Code)
	detail := e.Detail
	if e.Reason != "" {
		detail += " (" + string(e.Code) + ": " + e.Reason + ")"
	}
	body, err := json.Marshal(wire.OAuthError{Error: string(code), Description: description(detail)})
	if err != nil {
		body = nil // two strings: cannot happen
	}
	header := errorHeader(x, e)
	header["Pragma"] = "no-cache"
	if _, _, basic := x.r.BasicAuth(); basic && code == oauthInvalidClient {
		// RFC 6749 section 5.2: to a client that used the header, and to no other one.
		// There are libraries that take the challenge for the whole answer.
		status, header["WWW-Authenticate"] = http.StatusUnauthorized, `Basic realm="evergrant", charset="UTF-8"`
	}
	return answer{status: status, kind: "application/json", body: append(body, '\n'), header: header}
}

// oauthCode is a problem's code in OAuth's words. What a person has to mend, and no
// repetition would, is invalid_grant: at it such software asks for a new connection.
// What passes is 503, at which it keeps its refresh token and tries again.
func oauthCode(code broker.Code) (broker.Code, int) {
	switch code {
	case oauthInvalidRequest, oauthInvalidClient, oauthInvalidGrant, oauthUnsupportedGrant: // oauthInvalidRequest is broker.InvalidRequest
		return code, http.StatusBadRequest
	case broker.MissingScope:
		return oauthInvalidScope, http.StatusBadRequest
	case broker.NeedsReauth, broker.Disconnected, broker.NotFound:
		return oauthInvalidGrant, http.StatusBadRequest
	case broker.RefreshInProgress, broker.HeldConnection, broker.ProviderUnavailable, broker.IntegrationSuspended:
		return oauthUnavailable, http.StatusServiceUnavailable
	case broker.RateLimited:
		return oauthUnavailable, http.StatusTooManyRequests
	}
	return oauthServerError, http.StatusInternalServerError
}

// description is s as an error_description may be: printable ASCII without quotes and
// backslashes (RFC 6749 section 5.2).
func description(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '…':
			return '.'
		case r < 0x20 || r > 0x7e || r == '"' || r == '\\':
			return '\''
		}
		return r
	}, s)
}
