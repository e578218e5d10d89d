package client

import (
	"fmt"
	"log/slog"

	"github.com/evergrant/evergrant/internal/secret"
)

// Secret is a text that cannot print: under every verb of fmt, in slog, in JSON and as text it
// is "[redacted]". Reveal returns what it holds.
type Secret struct{ text secret.Text }

// NewSecret makes a Secret of s.
func NewSecret(s string) Secret { return Secret{secret.New(s)} }

// Reveal returns the secret itself, to be sent and to be kept nowhere.
func (s Secret) Reveal() string { return s.text.Reveal() }

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s.text.IsZero() }

// String is "[redacted]".
func (s Secret) String() string { return secret.Redacted }

// GoString is "[redacted]".
func (s Secret) GoString() string { return secret.Redacted }

// Format writes "[redacted]", for every verb.
func (s Secret) Format(f fmt.State, verb rune) { s.text.Format(f, verb) }

// LogValue is "[redacted]".
func (s Secret) LogValue() slog.Value { return s.text.LogValue() }

// MarshalText is "[redacted]", and so covers JSON.
func (s Secret) MarshalText() ([]byte, error) { return s.text.MarshalText() }
