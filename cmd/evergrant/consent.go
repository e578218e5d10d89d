package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// person is somebody at a browser without a screen: follows links, keeps cookies, and
// allows what the consent page asks.
type person struct {
	login  string // at the providers
	client *http.Client
}

// maxVisits is more than a connect needs: the link, the consent page and its answer,
// the callback, and the way back.
const maxVisits = 10

func newPerson(login string) (*person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &person{login: login, client: &http.Client{
		Jar: jar, Timeout: apiTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// consent opens the link and allows what it asks. It returns the first address that
// begins with end, without opening it; where end is empty, the last page's address.
func (p *person) consent(ctx context.Context, link, end string) (*url.URL, error) {
	at, err := url.Parse(link)
	if err != nil {
		return nil, errors.New("the link is no URL")
	}
	asked := false
	for range maxVisits {
		if end != "" && strings.HasPrefix(at.String(), end) {
			return at, nil
		}
		next, isForm, err := p.visit(ctx, at, nil)
		if err == nil && isForm && !asked {
			asked = true
			next, _, err = p.visit(ctx, at, url.Values{"user": {p.login}, "decision": {"allow"}})
		}
		switch {
		case err != nil:
			return nil, err
		case next == nil && end == "":
			return at, nil
		case next == nil:
			return nil, fmt.Errorf("the way ended at a page of %s", at.Host)
		}
		at = next
	}
	return nil, errors.New("too many redirects")
}

// visit opens an address, or posts a form to it. It returns where the answer leads to,
// nil for a page, and whether a page is the form of a simulated provider.
func (p *person) visit(ctx context.Context, at *url.URL, form url.Values) (next *url.URL, isForm bool, err error) {
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, false, fmt.Errorf("%s cannot be reached", at.Host)
	}
	_ = resp.Body.Close() // its status and headers say all
	if resp.StatusCode >= 400 {
		return nil, false, fmt.Errorf("%s answered %d", at.Host, resp.StatusCode)
	}
	if location, err := resp.Location(); err == nil {
		return location, false, nil
	}
	return nil, strings.HasPrefix(at.Path, "/sim/"), nil
}
