package client

import (
	"fmt"
	"strings"
	"time"
)

// Codes of an APIError, as docs/http.md tells them. What the caller may have to do something about
// has a type of its own besides.
const (
	CodeInvalidRequest       = "invalid_request"
	CodeUnauthorized         = "unauthorized"
	CodeForbidden            = "forbidden"
	CodeNotFound             = "not_found"
	CodeRefreshInProgress    = "refresh_in_progress"
	CodeHeld                 = "held"
	CodeRestartConnect       = "restart_connect"
	CodeAccountMismatch      = "account_mismatch"
	CodeNoRefreshToken       = "no_refresh_token"
	CodeMissingScope         = "missing_scope"
	CodeNeedsReauth          = "needs_reauth"
	CodeDisconnected         = "disconnected"
	CodeTokenRefused         = "token_refused"
	CodeRateLimited          = "rate_limited"
	CodeInternal             = "internal"
	CodeProviderUnavailable  = "provider_unavailable"
	CodeIntegrationSuspended = "integration_suspended"
)

// APIError is an answer of Evergrant that is not a success. errors.As finds it in each of the
// types around it too. It holds no secret.
type APIError struct {
	Code   string // "" where something else than Evergrant answered, such as a gateway
	Status int    // of HTTP
	Detail string // for a person to read
	// RequestID finds the request in Evergrant's log.
	RequestID string
	// RetryAfter is when to ask again at the earliest; zero: not told.
	RetryAfter time.Duration

	Reason       string   // of needs_reauth, disconnected and integration_suspended
	ConnectionID string   // the connection concerned, where the code has one
	AuthorizeURL string   // of restart_connect: where the user starts again
	MissingScope []string // of missing_scope
}

// Error says the code, the status and the detail.
func (e *APIError) Error() string {
	s := fmt.Sprintf("evergrant: %s (%d): %s", orUnknown(e.Code), e.Status, e.Detail)
	if e.Reason != "" {
		s += " (reason: " + e.Reason + ")"
	}
	if len(e.MissingScope) > 0 {
		s += " (missing: " + strings.Join(e.MissingScope, " ") + ")"
	}
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

func orUnknown(code string) string {
	if code == "" {
		return "no code"
	}
	return code
}

// typed is e as the type of its code.
func (e *APIError) typed() error {
	switch e.Code {
	case CodeNeedsReauth:
		return &NeedsReauthError{e}
	case CodeDisconnected:
		return &DisconnectedError{e}
	case CodeMissingScope:
		return &MissingScopeError{e}
	case CodeRateLimited:
		return &RateLimitedError{e}
	case CodeRestartConnect:
		return &RestartConnectError{e}
	case CodeRefreshInProgress:
		return &RefreshInProgressError{e}
	case CodeProviderUnavailable:
		return &ProviderUnavailableError{e}
	case CodeIntegrationSuspended:
		return &IntegrationSuspendedError{e}
	}
	return e
}

// NeedsReauthError says that the user has to consent again: Client.Reconnect with its
// ConnectionID makes the link. Reason is revoked, lost_response, expired or client_changed.
type NeedsReauthError struct{ *APIError }

// Unwrap returns the APIError.
func (e *NeedsReauthError) Unwrap() error { return e.APIError }

// DisconnectedError says that the connection is over; the owner may connect anew.
type DisconnectedError struct{ *APIError }

// Unwrap returns the APIError.
func (e *DisconnectedError) Unwrap() error { return e.APIError }

// MissingScopeError says that the user granted less than was needed: Client.Reconnect with its
// ConnectionID, asking for MissingScope, makes the link.
type MissingScopeError struct{ *APIError }

// Unwrap returns the APIError.
func (e *MissingScopeError) Unwrap() error { return e.APIError }

// RateLimitedError says that Evergrant was asked too often; RetryAfter tells when to go on.
type RateLimitedError struct{ *APIError }

// Unwrap returns the APIError.
func (e *RateLimitedError) Unwrap() error { return e.APIError }

// RestartConnectError says that a code was used up, refused or too old: send the user to
// AuthorizeURL, or where that is empty make a new session.
type RestartConnectError struct{ *APIError }

// Unwrap returns the APIError.
func (e *RestartConnectError) Unwrap() error { return e.APIError }

// RefreshInProgressError says that another worker was still refreshing, or the same
// confirmation was still under way, when the call's time was over.
type RefreshInProgressError struct{ *APIError }

// Unwrap returns the APIError.
func (e *RefreshInProgressError) Unwrap() error { return e.APIError }

// ProviderUnavailableError says that no valid token is left and the provider was still away
// when the call's time was over. Nothing is lost; RetryAfter tells when to ask again.
type ProviderUnavailableError struct{ *APIError }

// Unwrap returns the APIError.
func (e *ProviderUnavailableError) Unwrap() error { return e.APIError }

// IntegrationSuspendedError says that the provider refuses the application itself. No user can
// help; the operator of Evergrant has to look.
type IntegrationSuspendedError struct{ *APIError }

// Unwrap returns the APIError.
func (e *IntegrationSuspendedError) Unwrap() error { return e.APIError }

// UnreachableError says that no whole answer came from Evergrant.
type UnreachableError struct {
	Err   error // what became of the connection
	final bool  // the caller's own context is over
}

// Error says what became of the connection.
func (e *UnreachableError) Error() string { return "evergrant cannot be reached: " + e.Err.Error() }

// Unwrap returns Err.
func (e *UnreachableError) Unwrap() error { return e.Err }
