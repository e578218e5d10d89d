package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/evergrant/evergrant/internal/secret"
)

// Account is whose account a connection leads to, as the provider tells it. It is
// comparable with ==.
type Account struct {
	ID   string // 1…256 bytes, stable
	Name string // for people, at most 200 characters; may be empty
	// Fields and SecretFields are what the entry's keep list takes from the answer:
	// a JSON object with sorted names and string values, or "".
	Fields       string
	SecretFields secret.Text
}

// ErrNoIdentity is returned where the entry names no endpoint or no field that
// tells whose account it is.
var ErrNoIdentity = errors.New("the provider entry does not say how to read the account")

// maxAccountID bounds Account.ID, bytes.
const maxAccountID = 256

// Identity asks the provider whose access token a is. Of the answer only the two
// fields that the entry names, and what it keeps, are read: some profiles hold secrets.
// An entry with
// variables is resolved first, see Entry.Resolve.
func (c *Client) Identity(ctx context.Context, e Entry, a secret.Text, tokenType string) (Account, error) {
	e, err := e.Resolve(nil)
	if err != nil {
		return Account{}, err
	}
	endpoint, idField := e.Identity.Endpoint, e.Identity.IDField
	if endpoint == "" && e.UserinfoEndpoint != "" {
		endpoint, idField = e.UserinfoEndpoint, "sub" // OpenID Connect Core 5.3.2
	}
	if endpoint == "" || idField == "" {
		return Account{}, ErrNoIdentity
	}
	endpoint = fill(endpoint, map[string]string{hintAccess: url.PathEscape(a.Reveal())})
	r, err := c.identityRequest(ctx, e, endpoint, a, tokenType)
	if err != nil {
		return Account{}, fmt.Errorf("identity of %s: %w", e.ID, err)
	}
	o := c.send(r)
	if o.Failure != "" {
		return Account{}, fmt.Errorf("identity of %s: no answer: %s", e.ID, o.Failure)
	}
	if o.Status != http.StatusOK {
		return Account{}, fmt.Errorf("identity of %s: HTTP status %d", e.ID, o.Status)
	}
	body := readBody(o.Header, o.Body, o.Short)
	id := scalar(body.top.at(idField))
	if id == "" || len(id) > maxAccountID || !printable(id) || body.garbage {
		return Account{}, fmt.Errorf("identity of %s: the answer has no usable %s", e.ID, idField)
	}
	name := ""
	if e.Identity.NameField != "" {
		name = scalar(body.top.at(e.Identity.NameField))
	}
	found := Account{ID: id, Name: scrub(name, maxDetail, []secret.Text{a})}
	found.Fields, found.SecretFields = e.identityFields(body.top)
	return found, nil
}

func (c *Client) identityRequest(ctx context.Context, e Entry, endpoint string, a secret.Text, tokenType string) (*http.Request, error) {
	h := http.Header{}
	for name, v := range e.API.ExtraHeaders {
		if whole(v) == nil { // what still lacks a value is for callers to know
			h.Set(name, v)
		}
	}
	scheme, header := e.API.AuthHeaderScheme, e.API.AuthHeaderName
	if scheme == "" {
		scheme = tokenType
	}
	if scheme == "" {
		scheme = "Bearer"
	}
	if header == "" {
		header = "Authorization"
	}
	if scheme == NoScheme {
		h.Set(header, a.Reveal())
	} else {
		h.Set(header, scheme+" "+a.Reveal())
	}
	if e.Identity.Method == http.MethodPost {
		h.Set("Content-Type", "application/json")
		return c.request(ctx, http.MethodPost, endpoint, h, []byte(e.Identity.Body))
	}
	return c.request(ctx, http.MethodGet, endpoint, h, nil)
}
