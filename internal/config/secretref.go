package config

import (
	"errors"
	"regexp"
	"strings"

	"github.com/evergrant/evergrant/internal/secret"
)

// SecretKind is where a secret is kept.
type SecretKind string

// The kinds of SecretRef.
const (
	SecretNone           SecretKind = ""               // a public client has none
	SecretEnv            SecretKind = "env"            // an environment variable
	SecretFile           SecretKind = "file"           // a file; one newline at its end is not part of it
	SecretSSM            SecretKind = "ssm"            // a SecureString of the SSM Parameter Store
	SecretSecretsManager SecretKind = "secretsmanager" // AWS Secrets Manager, by name or ARN; after a #, a member of the JSON that it holds
	SecretLiteral        SecretKind = "literal"        // in the file itself; loopback providers only
)

// SecretRef says where a client secret is kept. The zero SecretRef is that of a
// public client. It prints as the file spells it, a literal as [redacted].
type SecretRef struct {
	kind    SecretKind
	name    string
	literal secret.Text
}

// Kind returns where the secret is kept.
func (r SecretRef) Kind() SecretKind { return r.kind }

// Name returns the variable, path, parameter or secret id; "" for a literal.
func (r SecretRef) Name() string { return r.name }

// IsZero reports whether there is no secret.
func (r SecretRef) IsZero() bool { return r.kind == SecretNone }

// String returns the reference, such as ${env:ACME_SECRET}; never a secret.
func (r SecretRef) String() string {
	switch r.kind {
	case SecretNone:
		return ""
	case SecretLiteral:
		return secret.Redacted
	default:
		return "${" + string(r.kind) + ":" + r.name + "}"
	}
}

// MarshalText implements encoding.TextMarshaler, so that JSON shows what String does.
func (r SecretRef) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// parseSecretRef reads the value of a client_secret. Its errors do not quote the
// value: it may be a secret.
func parseSecretRef(value string) (SecretRef, error) {
	kind, name, found := splitSecretRef(value)
	if !found && !strings.HasPrefix(value, "${") {
		if value == "" || strings.Contains(value, "${") {
			return SecretRef{}, errors.New("must be one whole reference, such as ${ssm:/evergrant/acme/client_secret}; leave the key out for a public client")
		}
		return SecretRef{kind: SecretLiteral, literal: secret.New(value)}, nil
	}
	if !found || strings.ContainsAny(kind+name, "${}\r\n\x00") {
		return SecretRef{}, errors.New("must be one whole reference with nothing before or after it, such as ${env:ACME_SECRET}")
	}
	pattern, known := map[SecretKind]string{
		SecretEnv:            `[A-Za-z_][A-Za-z0-9_]*`,
		SecretFile:           `.+`,
		SecretSSM:            `[A-Za-z0-9_./-]+`,
		SecretSecretsManager: `[A-Za-z0-9_./+=@:!-]+(#[A-Za-z0-9_.-]+)?`,
	}[SecretKind(kind)]
	if !known {
		return SecretRef{}, errors.New("refers to an unknown place; the places are env, file, ssm and secretsmanager")
	}
	if !regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(name) {
		return SecretRef{}, errors.New("holds a name that ${" + kind + ":…} cannot have")
	}
	return SecretRef{kind: SecretKind(kind), name: name}, nil
}

// splitSecretRef takes ${kind:name} apart, without a look at the parts.
func splitSecretRef(value string) (kind, name string, ok bool) {
	inner, opened := strings.CutPrefix(value, "${")
	inner, closed := strings.CutSuffix(inner, "}")
	kind, name, _ = strings.Cut(inner, ":")
	return kind, name, opened && closed
}
