package httpapi

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/wire"
)

// The codes of problems that the entrance alone can find.
const (
	methodNotAllowed     broker.Code = "method_not_allowed"
	payloadTooLarge      broker.Code = "payload_too_large"
	unsupportedMediaType broker.Code = "unsupported_media_type"
)

// problemKind is how one code is shown.
type problemKind struct {
	code   broker.Code
	status int
	title  string // to the API's callers
	// wait is the Retry-After where the use case names none, in s; 0: no header.
	wait int64
}

// problemKinds is the one table of codes. What it lacks is shown as its last row.
func problemKinds() []problemKind {
	return []problemKind{
		{broker.InvalidRequest, 400, "The request is not valid", 0},
		{broker.Unauthorized, 401, "The caller is not known", 0},
		{broker.Forbidden, 403, "The caller may not do this", 0},
		{broker.NotFound, 404, "There is no such thing", 0},
		{methodNotAllowed, 405, "The path does not take this method", 0},
		{broker.RefreshInProgress, 409, "The connection is being refreshed", 1},
		{broker.HeldConnection, 409, "The connection is held", 0},
		{broker.RestartConnect, 409, "The user has to start again", 0},
		{broker.AccountMismatch, 409, "It is another account", 0},
		{broker.NoRefreshToken, 409, "The provider gave no refresh token", 0},
		{broker.MissingScope, 409, "The token lacks a scope", 0},
		{broker.NeedsReauth, 409, "The user has to connect again", 0},
		{broker.Disconnected, 410, "The connection is disconnected", 0},
		{payloadTooLarge, 413, "The body is too large", 0},
		{unsupportedMediaType, 415, "The body is not JSON", 0},
		{broker.TokenRefused, 422, "The provider refused the token", 0},
		{broker.RateLimited, 429, "There are too many requests", 10},
		{broker.ProviderUnavailable, 503, "The provider cannot be reached", 30},
		{broker.IntegrationSuspended, 503, "The provider refuses the application", 0},
		{broker.Internal, 500, "Something went wrong", 0},
	}
}

func kindOf(code broker.Code) problemKind {
	kinds := problemKinds()
	for _, k := range kinds {
		if k.code == code {
			return k
		}
	}
	return kinds[len(kinds)-1]
}

// errorHeader is what the header of an error says, be it a problem or a page.
func errorHeader(x *exchange, e *broker.Error) map[string]string {
	header := map[string]string{}
	wait := e.RetryAfter
	if wait <= 0 {
		wait = kindOf(e.Code).wait
	}
	if wait > 0 {
		header["Retry-After"] = strconv.FormatInt(wait, 10)
	}
	if e.Code == payloadTooLarge {
		header["Connection"] = "close" // else the server would wait for the rest of the body
	}
	if e.Code == broker.Unauthorized {
		header["WWW-Authenticate"] = challenge(x.r) // RFC 9110 section 15.5.2
	}
	return header
}

// problem is e as RFC 9457 has it.
func problem(x *exchange, e *broker.Error) answer {
	kind := kindOf(e.Code)
	detail := e.Detail
	if detail == "" {
		detail = kind.title + "."
	}
	body, err := json.Marshal(wire.Problem{
		Type: "/problems/" + string(kind.code), Title: kind.title, Status: kind.status, Detail: detail, Code: string(kind.code),
		RequestID: x.id, Reason: e.Reason, AuthorizeURL: e.AuthorizeURL, ConnectionID: e.ConnectionID,
		MissingScope: strings.Join(e.Missing, " "),
	})
	if err != nil {
		body = nil // strings and a number: cannot happen
	}
	return answer{status: kind.status, kind: wire.ProblemType, body: append(body, '\n'), header: errorHeader(x, e)}
}
