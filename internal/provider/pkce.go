package provider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"github.com/evergrant/evergrant/internal/secret"
)

// NewVerifier draws a PKCE code verifier: 43 characters that hold 256 random bits,
// as RFC 7636 section 4.1 recommends.
func NewVerifier() secret.Text {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return secret.New(base64.RawURLEncoding.EncodeToString(b))
}

// Challenge returns the S256 code challenge of a verifier (RFC 7636 section 4.2).
// The method plain is not offered: whoever sees the authorization request would
// hold the verifier.
func Challenge(verifier secret.Text) string {
	sum := sha256.Sum256([]byte(verifier.Reveal()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// SendsPKCE reports whether an authorization request carries a challenge. It does
// also where support is unknown: a server ignores what it does not know (RFC 6749
// section 3.1), and one that knows it protects the code.
func (e Entry) SendsPKCE() bool { return e.PKCE != "unsupported" }
