package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
)

// IDToken is an ID token as it came with the answer to a code exchange, and what must
// be true of it. Package idtoken verifies it.
type IDToken struct {
	Raw      secret.Text
	ClientID string    // of the client that sent the code
	Nonce    string    // NonceHash of the nonce that the browser took to the provider
	At       time.Time // when the code was sent; the token may be looked at again later
}

// VerifyIDToken says whose account an ID token speaks of: ErrKeysUnavailable where it
// cannot tell now, another error where it never will. It is idtoken.Verifier.Verify,
// passed to those alone who exchange codes, since it brings a library along.
type VerifyIDToken func(ctx context.Context, e Entry, t IDToken) (Account, error)

// ErrKeysUnavailable says that a provider's keys could not be read just now, so that
// nothing is known of the token.
var ErrKeysUnavailable = errors.New("the provider's keys cannot be read now")

// ScopeOpenID asks for an ID token (OpenID Connect Core 1.0 section 3.1.2.1).
const ScopeOpenID = "openid"

// AsksIDToken reports whether an authorization request for these scopes asks for an ID
// token, and so carries a nonce.
func AsksIDToken(scopes []string) bool { return slices.Contains(scopes, ScopeOpenID) }

// TellsByIDToken reports whether the entry knows enough to believe an ID token: its
// issuer and that one's keys. It counts only where nothing else tells the account.
func (e Entry) TellsByIDToken() bool {
	return e.Issuer != "" && e.JWKSURI != "" && e.Identity.Kept == ""
}

// TellsByEndpoint reports whether Client.Identity has something to ask.
func (e Entry) TellsByEndpoint() bool {
	if e.Identity.Kept != "" {
		return false // it was told already
	}
	if e.Identity.Endpoint == "" {
		return e.UserinfoEndpoint != ""
	}
	return e.Identity.IDField != ""
}

// NonceHash is what is kept of a nonce: who reads the store cannot put it into a token.
func NonceHash(nonce string) string {
	sum := sha256.Sum256([]byte(nonce))
	return hex.EncodeToString(sum[:])
}

// NewAccount is the account of an id and a name from elsewhere: the id within its
// bounds, the name cut and printable.
func NewAccount(id, name string) (Account, error) {
	if id == "" || len(id) > maxAccountID || !printable(id) {
		return Account{}, errors.New("the account's id is not 1 to 256 printable ASCII characters")
	}
	return Account{ID: id, Name: scrub(name, maxDetail, nil)}, nil
}
