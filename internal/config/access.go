package config

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/secret"
)

// The scopes of a caller; an API operation names the one that it needs.
const (
	ScopeConnect = "connect" // make and confirm connect sessions
	ScopeToken   = "token"   // read connections and their access tokens
	ScopeManage  = "manage"  // import, list, tag, disconnect
	ScopeAdmin   = "admin"   // operator commands
	ScopeMetrics = "metrics" // read /metrics of serve, and nothing else
)

// Rights are what a caller may do. The zero Rights allow nothing.
type Rights struct {
	Allow        []string // scopes; none implies another
	Integrations []string // names, or "*" for all
	Owners       []string // each exact, or a prefix that ends in *
	// ImportsPerMinute is how many connections the caller may import or activate in a
	// minute; 0: DefaultImportsPerMinute.
	ImportsPerMinute int
}

// DefaultImportsPerMinute is Rights.ImportsPerMinute where the file says nothing. Each
// import sends one request to a provider, and fills the schedule from then on.
const DefaultImportsPerMinute = 300

// MayScope reports whether the caller has the scope.
func (r Rights) MayScope(scope string) bool { return slices.Contains(r.Allow, scope) }

// MayIntegration reports whether the caller may use the integration.
func (r Rights) MayIntegration(name string) bool {
	return slices.Contains(r.Integrations, "*") || slices.Contains(r.Integrations, name)
}

// MayOwner reports whether the caller may act for the owner. Nobody may act for the
// empty owner.
func (r Rights) MayOwner(owner string) bool {
	return owner != "" && slices.ContainsFunc(r.Owners, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(owner, prefix)
		}
		return pattern == owner
	})
}

// Allows reports whether all three hold.
func (r Rights) Allows(scope, integration, owner string) bool {
	return r.MayScope(scope) && r.MayIntegration(integration) && r.MayOwner(owner)
}

// APIKey is a caller that shows a key.
type APIKey struct {
	Name string // unique; pattern as for integrations
	Hash string // of the key, as HashAPIKey returns it; unique
	// Previous is the key that this one replaces, and still works for a while. The two
	// are one caller: connect sessions, rights and logs go by the name.
	Previous PreviousKey
	Rights
}

// PreviousKey is a key that has been replaced. The zero PreviousKey: there is none.
type PreviousKey struct {
	Hash  string
	Until int64 // unix s; from then on it is refused
}

// IAMCaller is a caller that AWS has authenticated.
type IAMCaller struct {
	// ARN of the caller, or of a path that ends in /*, such as
	// arn:aws:sts::123456789012:assumed-role/backend/* for all sessions of a role.
	ARN string
	Rights
}

// Matches reports whether arn, as the gateway's IAM authorizer names it, is this
// caller.
func (c *IAMCaller) Matches(arn string) bool {
	if prefix, ok := strings.CutSuffix(c.ARN, "*"); ok {
		return len(arn) > len(prefix) && strings.HasPrefix(arn, prefix)
	}
	return arn != "" && arn == c.ARN
}

// CallerByARN returns the first caller of the file that matches arn.
func (c *Config) CallerByARN(arn string) (*IAMCaller, bool) {
	n := slices.IndexFunc(c.IAMCallers, func(i IAMCaller) bool { return i.Matches(arn) })
	if n < 0 {
		return nil, false
	}
	return &c.IAMCallers[n], true
}

// KeyFor returns the API key that was shown, at now in unix seconds, and whether it
// was the previous one of its name. Hashes are compared, in constant time and all of
// them, so that nothing is learned from how long it takes.
func (c *Config) KeyFor(shown secret.Text, now int64) (key *APIKey, previous, ok bool) {
	if shown.IsZero() {
		return nil, false, false
	}
	hash := []byte(HashAPIKey(shown))
	for n := range c.APIKeys {
		k := &c.APIKeys[n]
		if subtle.ConstantTimeCompare(hash, []byte(k.Hash)) == 1 {
			key, previous = k, false
		}
		if subtle.ConstantTimeCompare(hash, []byte(k.Previous.Hash)) == 1 && now < k.Previous.Until {
			key, previous = k, true
		}
	}
	return key, previous, key != nil
}

// NewAPIKey makes an API key, evg_ and 256 random bits, and the hash that the
// configuration holds of it.
func NewAPIKey() (key secret.Text, hash string) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: the program ends instead
	key = secret.New("evg_" + base64.RawURLEncoding.EncodeToString(random))
	return key, HashAPIKey(key)
}

// HashAPIKey returns "sha256:" and the hex of the SHA-256 of the whole key. A key has
// 256 random bits, so a slow hash would protect nothing.
func HashAPIKey(key secret.Text) string {
	sum := sha256.Sum256([]byte(key.Reveal()))
	return "sha256:" + hex.EncodeToString(sum[:])
}
