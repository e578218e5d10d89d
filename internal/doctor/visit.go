package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// certificateEnds is how long before its end a certificate becomes a person's business:
// ACM and ACME clients renew theirs a month before.
const certificateEnds = 14 * 24 * time.Hour

// Visitor looks at a deployment from outside, as a browser and a stranger see it: it has
// no API key.
type Visitor struct {
	// Client sends the requests; it must follow no redirect. Required.
	Client *http.Client
	// UserAgent is what it says it is.
	UserAgent string
	// Now is the clock. Required.
	Now func() time.Time
}

// Visit looks at base, an origin without a path, and at the redirect URIs of integrations,
// of which only names and redirect URIs are read.
func (v Visitor) Visit(ctx context.Context, base string, integrations []wire.Integration) []Finding {
	all, there := v.front(ctx, base)
	if !there {
		return all
	}
	all = append(all, v.closed(ctx, base, "/v1/integrations", http.StatusUnauthorized))
	// The gateway refuses what has no signature; serve has no such routes.
	all = append(all, v.closed(ctx, base, "/iam/v1/integrations", http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound))
	for _, i := range integrations {
		if i.RedirectURI != "" {
			all = append(all, v.redirectURI(ctx, base, i)...)
		}
	}
	return all
}

// front asks for the health, and looks at the way there, too.
func (v Visitor) front(ctx context.Context, base string) (all []Finding, there bool) {
	began := v.Now()
	resp, body, err := v.get(ctx, base+"/healthz")
	if err != nil {
		return []Finding{{Problem, checkServer, "", fmt.Sprintf("%s cannot be reached from here: %v", base, err), "Look at DNS, the certificate, and the mapping of the domain to the API."}}, false
	}
	ended := v.Now()
	var health wire.Health
	if json.Unmarshal(body, &health) != nil || health.Status == "" || health.Store == "" {
		return []Finding{{Problem, checkServer, "", fmt.Sprintf("%s is answered by something else than Evergrant (HTTP status %d)", base, resp.StatusCode), "Is that the stack's output Origin, without a path?"}}, false
	}
	all = []Finding{{Fine, checkServer, "", "runs version " + health.Version, ""}, v.certificate(base, resp.TLS)}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		all = append(all, skewed("its gateway", -skewOf(date, began, ended), "that of this machine"))
	}
	return all, true
}

// certificate judges what the connection, which has verified it, was made with.
func (v Visitor) certificate(base string, s *tls.ConnectionState) Finding {
	if s == nil || len(s.PeerCertificates) == 0 {
		return Finding{Note, checkTLS, "", base + " is asked without TLS, on this machine", ""}
	}
	left := s.PeerCertificates[0].NotAfter.Sub(v.Now())
	if left < certificateEnds {
		return Finding{
			Problem, checkTLS, "", fmt.Sprintf("the certificate of %s ends in %d days", base, int(left.Hours()/24)),
			"Have it renewed: ACM does so by itself while its validation record in DNS is there.",
		}
	}
	return Finding{Fine, checkTLS, "", fmt.Sprintf("%s, with a certificate for %d more days", tls.VersionName(s.Version), int(left.Hours()/24)), ""}
}

// closed looks whether a route refuses who shows nothing.
func (v Visitor) closed(ctx context.Context, base, path string, refusals ...int) Finding {
	resp, _, err := v.get(ctx, base+path)
	if err != nil {
		return Finding{Problem, checkGuard, "", fmt.Sprintf("%s cannot be asked: %v", path, err), "Let its DNS and proxy lead to Evergrant, with every path."}
	}
	for _, status := range refusals {
		if resp.StatusCode == status {
			return Finding{Fine, checkGuard, "", path + " refuses strangers", ""}
		}
	}
	return Finding{
		Problem, checkGuard, "", fmt.Sprintf("%s answers a stranger with HTTP status %d", path, resp.StatusCode),
		"Does a proxy before it add a key, or answer by itself? Routes and authorizers have to be those of template.yaml.",
	}
}

// redirectURI asks for what a provider sends browsers back to, with nothing in it: our own
// page must say that something is missing.
func (v Visitor) redirectURI(ctx context.Context, base string, i wire.Integration) []Finding {
	uri := i.RedirectURI
	all := []Finding{{Note, checkRedirectURI, i.Name, "its redirect URI is " + uri, "Register exactly this at the provider."}}
	wrong := func(what, remedy string) []Finding {
		return append(all, Finding{Problem, checkRedirectURI, i.Name, uri + " " + what, remedy})
	}
	if !strings.HasPrefix(uri, base+"/") {
		all = append(all, Finding{
			Warning, checkRedirectURI, i.Name, "it is at another address than " + base,
			"If browsers are to come to " + base + ", set the parameter PublicUrl (public_url under serve) to it before the first user connects.",
		})
	}
	resp, _, err := v.get(ctx, uri)
	if err != nil {
		return wrong(fmt.Sprintf("cannot be reached: %v", err), "Look at DNS, the certificate, and the mapping of the domain to the API.")
	}
	switch ours := strings.Contains(resp.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'"); {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return wrong("is redirected elsewhere", "Let it lead to Evergrant directly: a redirect may lose the code, or show it to somebody else.")
	case !ours || resp.StatusCode < 400 || resp.StatusCode >= 500:
		return wrong(fmt.Sprintf("is not answered by Evergrant's page (HTTP status %d)", resp.StatusCode), "Let its DNS and proxy lead to Evergrant, with path, query and headers as they are.")
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if resp.Header.Get(name) != want {
			return wrong("comes without "+name+": "+want, "Let the proxy before it pass headers as they are: without them a code may stay in a cache, or be told to another site.")
		}
	}
	return append(all, Finding{Fine, checkRedirectURI, i.Name, uri + " is answered by Evergrant's page", ""})
}

// get asks for a page. The error names no address, which the finding does.
func (v Visitor) get(ctx context.Context, address string) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, errors.New("it is no URL")
	}
	r.Header.Set("User-Agent", v.UserAgent)
	resp, err := v.Client.Do(r)
	if err != nil {
		return nil, nil, withoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp, body, err
}

// Origin is address without what may follow its host; ok is false unless it is an https
// origin, or an http one.
func Origin(address string) (origin string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", false
	}
	return u.Scheme + "://" + u.Host, true
}
