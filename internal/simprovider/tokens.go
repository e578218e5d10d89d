package simprovider

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"
)

// randomBytes returns n bytes of crypto/rand, which never fails (Go 1.24).
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// opaque is a token of n random bytes in base64url.
func opaque(n int) string { return base64.RawURLEncoding.EncodeToString(randomBytes(n)) }

func mintOpaque(*service, *row, time.Time) string { return opaque(32) }

func mintOpaqueRefresh() string { return opaque(32) }

// mintEncrypted is a refresh token as Laravel Passport makes them: a hex text of
// some 700 characters that begins with the version bytes of its library.
func mintEncrypted() string { return "def50200" + hex.EncodeToString(randomBytes(340)) }

// mintJWE is a refresh token as Cognito makes them: five parts, over 1 KB.
func mintJWE() string {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"cty":"JWT","enc":"A256GCM","alg":"RSA-OAEP"}`))
	return head + "." + opaque(256) + "." + opaque(12) + "." + opaque(600) + "." + opaque(16)
}

// jwt has the shape of a signed token. Its signature is random: nobody can verify
// it, as nobody but the service itself may look into an access token.
func jwt(claims map[string]any) string {
	body, _ := json.Marshal(claims) // strings and numbers only: cannot fail
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"RS256","kid":"sim"}`))
	return head + "." + base64.RawURLEncoding.EncodeToString(body) + "." + opaque(256)
}

func mintJWT(sv *service, r *row, now time.Time) string {
	subject := r.grant.client
	if r.grant.user != "" {
		subject = r.grant.user
	}
	return jwt(map[string]any{
		"iss": sv.base, "sub": subject, "client_id": r.grant.client, "token_use": "access",
		"jti": opaque(16), "iat": now.Unix(), "exp": r.accessExpires.Unix(),
	})
}
