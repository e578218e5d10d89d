package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Text is a secret string: a token, a client secret, an authorization code, a
// PKCE verifier. The zero Text is empty.
//
// It prints as [redacted] under every fmt verb, in slog, in JSON and as text,
// also when it stands in an unexported field of another struct: fmt cannot call
// methods there and would print a plain string in clear, so Text holds a
// pointer, of which fmt prints the address.
//
// Two Texts made from equal strings are not == to each other; use Equal.
type Text struct{ p *string }

// New makes a Text of s. New("") is the zero Text.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{p: &s}
}

// Reveal returns the secret itself. Its callers are few and counted by a test:
// the token request, sealing, and the answer that hands a token out.
func (t Text) Reveal() string {
	if t.p == nil {
		return ""
	}
	return *t.p
}

// IsZero reports whether t is empty.
func (t Text) IsZero() bool { return t.p == nil }

// Len is the length of the secret in bytes.
func (t Text) Len() int {
	if t.p == nil {
		return 0
	}
	return len(*t.p)
}

// Equal compares in constant time. Empty is never equal to anything, not even
// to empty: a comparison of two absent secrets must fail closed.
func (t Text) Equal(u Text) bool {
	if t.p == nil || u.p == nil {
		return false
	}
	a, b := sha256.Sum256([]byte(*t.p)), sha256.Sum256([]byte(*u.p))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String implements fmt.Stringer.
func (t Text) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (t Text) GoString() string { return Redacted }

// Format implements fmt.Formatter, for every verb.
func (t Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue implements slog.LogValuer.
func (t Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler, and so covers JSON, XML and YAML.
func (t Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText reads a secret in, as it stands.
func (t *Text) UnmarshalText(b []byte) error {
	*t = New(string(b))
	return nil
}
