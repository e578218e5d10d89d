package oidc_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// browser is a person's: it keeps cookies and goes where it is sent, one step at a
// time, so that a test can stop it anywhere.
type browser struct{ http.Client }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{http.Client{Jar: jar}}
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// open loads one address. location is where it sends the browser, "" for a page.
func (b *browser) open(t *testing.T, address string) (status int, location, page string) {
	t.Helper()
	answer, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode/100 != 3 {
		return answer.StatusCode, "", string(body)
	}
	to, err := answer.Location()
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, to.String(), string(body)
}

// follow goes from an address on until it is sent to one that begins with end, which
// it returns and does not open.
func (b *browser) follow(t *testing.T, address, end string) *url.URL {
	t.Helper()
	for range 20 {
		if strings.HasPrefix(address, end) {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		status, location, page := b.open(t, address)
		if location == "" {
			t.Fatalf("the browser was not sent on, but shown a page with status %d:\n%s", status, page)
		}
		address = location
	}
	t.Fatal("the browser is sent in circles")
	return nil
}
