package provider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"time"
)

const (
	// assertionType is client_assertion_type (RFC 7523 section 2.2).
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is how long an assertion is good for, seconds: longer than a
	// request takes, with clocks that differ.
	assertionLife = 300
	minRSA        = 2048 // bits (RFC 7518 section 3.3)
)

// assertionAudience is aud: the token endpoint, unless the provider wants another.
func (e Entry) assertionAudience() string {
	if e.ClientAssertionAudience != "" {
		return e.ClientAssertionAudience
	}
	return e.TokenEndpoint
}

// clientAssertion signs a JWT that proves the client (RFC 7523 section 3): ES256 with a
// P-256 key, RS256 with an RSA key. Each has a new jti, so that none is taken twice.
func clientAssertion(cred Credentials, audience string, now time.Time) (string, error) {
	key, err := signingKey(cred.ClientSecret.Reveal())
	if err != nil {
		return "", err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: it ends the process instead
	head := map[string]string{"alg": "ES256", "typ": "JWT"}
	if _, ok := key.(*rsa.PrivateKey); ok {
		head["alg"] = "RS256"
	}
	if cred.KeyID != "" {
		head["kid"] = cred.KeyID
	}
	signed, err := segments(head, map[string]any{
		"iss": cred.ClientID, "sub": cred.ClientID, "aud": audience, "jti": base64.RawURLEncoding.EncodeToString(id),
		"iat": now.Unix(), "exp": now.Unix() + assertionLife,
	})
	if err != nil {
		return "", err
	}
	signature, err := sign(key, sha256.Sum256([]byte(signed)))
	if err != nil {
		return "", errors.New("the client's key cannot sign")
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// segments are the two parts of a JWT that are signed.
func segments(parts ...any) (string, error) {
	out := ""
	for _, part := range parts {
		b, err := json.Marshal(part)
		if err != nil {
			return "", errors.New("the client assertion cannot be encoded")
		}
		if out != "" {
			out += "."
		}
		out += base64.RawURLEncoding.EncodeToString(b)
	}
	return out, nil
}

func sign(key crypto.Signer, sum [sha256.Size]byte) ([]byte, error) {
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return key.Sign(rand.Reader, sum[:], crypto.SHA256) // PKCS #1 v1.5, which is RS256
	}
	r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
	if err != nil {
		return nil, err
	}
	const half = 32
	out := make([]byte, 2*half) // r and s, not ASN.1 (RFC 7518 section 3.4)
	r.FillBytes(out[:half])
	s.FillBytes(out[half:])
	return out, nil
}

// signingKey reads a PEM. Its errors say nothing of what stands in it.
func signingKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the client's private key is not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, errors.New("the client's PEM does not hold a private key in the clear")
	}
	if err != nil {
		return nil, errors.New("the client's private key cannot be read")
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	case *rsa.PrivateKey:
		if key.N.BitLen() >= minRSA {
			return key, nil
		}
	}
	return nil, errors.New("the client's private key must be P-256, or RSA of 2048 bits at least")
}
