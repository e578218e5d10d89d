// Package idtoken verifies ID tokens (OpenID Connect Core 1.0 section 3.1.3.7): whose
// account a token answer belongs to, where a provider tells it in no other way.
//
// An ID token is a statement about a person, signed by the provider, and never a
// credential: nothing is authorized by showing one. It is read once, from the answer
// to a code exchange, and only its subject and a name for people are kept.
//
// Verification itself is coreos/go-oidc's. Around it stand what that leaves to its
// caller: the nonce, the authorized party, the time of issue; and the way to the keys,
// which is that of every other request to a provider.
package idtoken

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/evergrant/evergrant/internal/provider"
)

const (
	// skew is by how much the provider's clock may differ from ours.
	skew = time.Minute
	// keysTime bounds one reading of a provider's keys.
	keysTime = 3 * time.Second
	// maxToken bounds an ID token, bytes. Real ones have one to three thousand.
	maxToken = 32 << 10
)

// algorithms are all that a token may be signed by: signatures that a public key
// verifies. "none" and HS256 and its kin are not among them, so that neither an
// unsigned token counts nor one "signed" with the public key as a shared secret
// (RFC 8725 section 2.1). What a provider's metadata says changes nothing in this.
func algorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
		oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}
}

// Verifier verifies ID tokens. It may be used concurrently. A provider's keys stay in
// memory, and are read anew where a token names one that is not among them.
type Verifier struct {
	client *provider.Client

	mu   sync.Mutex
	sets map[string]*oidc.RemoteKeySet // by URL of the key set, of which a configuration has few; guarded by mu
}

// New returns a Verifier that reads keys by way of client.
func New(client *provider.Client) *Verifier {
	return &Verifier{client: client, sets: map[string]*oidc.RemoteKeySet{}}
}

// By is New as those take it who have yet to make the client.
func By(client *provider.Client) provider.VerifyIDToken { return New(client).Verify }

// Verify returns whose account the token speaks of. The entry has an issuer and the
// address of its keys. The error is provider.ErrKeysUnavailable where the keys could
// not be read, so that the token may be good; after every other one it never will be.
// No error holds a part of the token.
func (v *Verifier) Verify(ctx context.Context, e provider.Entry, t provider.IDToken) (provider.Account, error) {
	raw := t.Raw.Reveal()
	if len(raw) > maxToken || e.Issuer == "" || e.JWKSURI == "" || t.ClientID == "" {
		return provider.Account{}, errors.New("ID token: too large, or the entry lacks the issuer or its keys")
	}
	keys := &keySet{set: v.set(e.JWKSURI)}
	verified, err := oidc.NewVerifier(e.Issuer, keys, &oidc.Config{
		ClientID: t.ClientID, SupportedSigningAlgs: algorithms(),
		SkipExpiryCheck: true, // below, with our own skew
	}).Verify(ctx, raw)
	switch {
	case keys.unread:
		return provider.Account{}, fmt.Errorf("ID token: %w", provider.ErrKeysUnavailable)
	case err != nil:
		// Its text may quote what the token claims.
		return provider.Account{}, errors.New("ID token: not signed by the issuer's keys, or for another client or of another issuer")
	}
	c := claims{}
	if err := verified.Claims(&c); err != nil {
		return provider.Account{}, errors.New("ID token: its claims cannot be read")
	}
	if err := c.check(verified, t); err != nil {
		return provider.Account{}, fmt.Errorf("ID token: %w", err)
	}
	return provider.NewAccount(verified.Subject, c.name())
}

// claims are what go-oidc does not read.
type claims struct {
	AuthorizedParty   string  `json:"azp"`
	NotBefore         float64 `json:"nbf"`
	Name              string  `json:"name"`
	PreferredUsername string  `json:"preferred_username"`
}

func (c claims) name() string {
	if c.Name != "" {
		return c.Name
	}
	return c.PreferredUsername
}

// check is what OpenID Connect Core leaves after issuer, audience and signature.
func (c claims) check(token *oidc.IDToken, t provider.IDToken) error {
	late, early := t.At.Add(skew), t.At.Add(-skew)
	switch {
	case c.AuthorizedParty != "" && c.AuthorizedParty != t.ClientID:
		return errors.New("azp names another client")
	case len(token.Audience) > 1 && c.AuthorizedParty == "":
		return errors.New("it is for several clients and names none in azp")
	case token.Expiry.Unix() <= 0 || !token.Expiry.After(early):
		return errors.New("it has expired")
	case token.IssuedAt.Unix() <= 0 || token.IssuedAt.After(late):
		return errors.New("it was issued in the future, or does not say when")
	case c.NotBefore > float64(late.Unix()):
		return errors.New("it is not valid yet")
	case t.Nonce == "" || token.Nonce == "" || subtle.ConstantTimeCompare([]byte(provider.NonceHash(token.Nonce)), []byte(t.Nonce)) != 1:
		return errors.New("its nonce is not the one that was sent")
	case slices.Contains(token.Audience, ""):
		return errors.New("its audience is empty")
	}
	return nil
}

// set returns the keys at that address.
func (v *Verifier) set(address string) *oidc.RemoteKeySet {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sets[address] == nil {
		ctx := oidc.ClientContext(context.Background(), &http.Client{Transport: documents{v.client}})
		v.sets[address] = oidc.NewRemoteKeySet(ctx, address)
	}
	return v.sets[address]
}

// keySet is one verification's look at the keys. It remembers whether they were there:
// of its error go-oidc passes on the words alone.
type keySet struct {
	set    *oidc.RemoteKeySet
	unread bool
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.set.VerifySignature(ctx, jwt)
	k.unread = err != nil && (errors.Is(err, errDocument) || ctx.Err() != nil)
	return payload, err
}

// documents lets go-oidc read key sets by way of the provider client, and nothing
// else: a token's jku or x5u leads nowhere (go-oidc does not look at them either).
type documents struct{ client *provider.Client }

// errDocument marks what kept a key set from being read.
var errDocument = errors.New("the key set cannot be read")

// RoundTrip implements http.RoundTripper.
func (d documents) RoundTrip(r *http.Request) (*http.Response, error) {
	// go-oidc reads keys apart from the call that waits for them, without its deadline.
	ctx, cancel := context.WithTimeout(r.Context(), keysTime)
	defer cancel()
	body, err := d.client.Document(ctx, r.URL.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	}
	if !json.Valid(body) {
		return nil, errDocument
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}
