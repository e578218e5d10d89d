package httpapi

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/wording"
)

// cookieLife is the life of a browser-binding cookie in seconds: that of the state
// which it belongs to.
const cookieLife = 900

func (f *face) addAuthorize() {
	f.handle("/authorize/{integration}", errorPage, map[string]operation{
		http.MethodGet: onLoopbackAddress((*exchange).authorize), http.MethodHead: onLoopbackAddress((*exchange).authorize),
	})
}

// addCallback takes no HEAD: whoever only looks whether the address is there must not
// use the state up.
func (f *face) addCallback() {
	f.handle("/callback/{integration}", errorPage, map[string]operation{http.MethodGet: onLoopbackAddress((*exchange).callback)})
}

// authorize opens a connect link. Link previewers send HEAD, for which the use case
// creates nothing.
func (x *exchange) authorize() (answer, error) {
	params, err := x.browserQuery(maxQuery)
	if err != nil {
		return answer{}, err
	}
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	request := broker.AuthorizeRequest{
		Origin: origin, Integration: x.r.PathValue("integration"), Session: params["session"], ReturnTo: params["return_to"],
		Head: x.r.Method == http.MethodHead, Cookies: x.cookies(),
	}
	if request.Session == "" && !request.Head {
		if err := x.mayOpen(request.Integration); err != nil {
			return answer{}, err
		}
	}
	b, err := x.Broker.Authorize(x.r.Context(), request)
	if err != nil {
		return answer{}, err
	}
	return x.toBrowser(b), nil
}

// mayOpen bounds public connects. What is refused by the first limit does not count
// towards the second, so that one source cannot shut an integration to all others.
func (x *exchange) mayOpen(integration string) error {
	if _, ok := x.Keys.Integration(integration); !ok {
		return nil // nothing is stored for it, and names that are none must not fill the limiters
	}
	if wait, over := x.openings.over(source(x.r.RemoteAddr)+" "+integration, x.Now()); over {
		return &broker.Error{Code: broker.RateLimited, RetryAfter: wait, Page: wording.TooMany}
	}
	if wait, over := x.public.over(integration, x.Now()); over {
		return &broker.Error{Code: broker.RateLimited, RetryAfter: wait, Page: wording.Busy}
	}
	return nil
}

// callback takes what the provider sent by way of the browser.
func (x *exchange) callback() (answer, error) {
	params, err := x.browserQuery(maxCallbackQuery)
	if err != nil {
		return answer{}, err
	}
	for name, value := range params {
		if utf8.ValidString(value) {
			continue
		}
		// An error's description in Latin-1 is no reason to lose the error; what is
		// compared or sent on must be as it came.
		if name != "error_description" {
			return answer{}, badLink("The query is not encoded correctly.")
		}
		params[name] = strings.ToValidUTF8(value, "\uFFFD")
	}
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	b, err := x.Broker.Callback(x.r.Context(), broker.CallbackRequest{
		Origin: origin, Integration: x.r.PathValue("integration"), Params: params, Cookies: x.cookies(),
	})
	if err != nil {
		return answer{}, err
	}
	return x.toBrowser(b), nil
}

func (x *exchange) browserQuery(limit int) (map[string]string, error) {
	params, err := parseQuery(x.r.URL.RawQuery, limit)
	if err != nil {
		return nil, badLink(err.Error()) // without the parameter's name: it is text of whoever made the link
	}
	return params, nil
}

func badLink(what string) error {
	return &broker.Error{Code: broker.InvalidRequest, Detail: "The link is not as it was made. " + what}
}

// toBrowser is the use case's answer as HTTP.
func (x *exchange) toBrowser(b broker.Browser) answer {
	var a answer
	if b.Location != "" {
		a = answer{status: b.Status, header: map[string]string{"Location": b.Location}}
	} else {
		a = x.page(b.Status, b.Page)
	}
	x.code = b.Page.Code
	for _, c := range b.Cookies {
		a.cookies = append(a.cookies, setCookie(c, b.Secure))
	}
	return a
}

// setCookie is c for the whole browser session's flow: for our host alone, for
// navigations that come back from the provider (hence Lax), for no script.
func setCookie(c broker.Cookie, secure bool) *http.Cookie {
	set := &http.Cookie{
		Name: c.Name, Value: c.Value, Path: "/", MaxAge: cookieLife, HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
	if c.Value == "" {
		set.MaxAge = -1
	}
	return set
}

// cookies are those of the request that Evergrant may have set, in the order sent.
// Which of them count is the use case's business: under https only __Host- ones, which
// no sibling domain can set.
func (x *exchange) cookies() []broker.Cookie {
	var ours []broker.Cookie
	for _, c := range x.r.Cookies() {
		if strings.HasPrefix(c.Name, "__Host-evg-") || strings.HasPrefix(c.Name, "evg-dev-") {
			ours = append(ours, broker.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	return ours
}

// origin is the origin under which browsers reach us. The Host header has no say.
func (x *exchange) origin() (string, error) {
	if u := x.Keys.PublicURL; u != "" {
		return strings.TrimSuffix(u, "/"), nil
	}
	if x.Origin != nil {
		if o := x.Origin(x.r); o != "" {
			return o, nil
		}
	}
	return "", &broker.Error{Code: broker.Internal, Detail: "Evergrant does not know its own address. The operator has to set public_url."}
}

// onLoopbackAddress sends a browser that came to http://localhost on to 127.0.0.1.
// They are one machine and two cookie jars: a flow that begins under the one name and
// ends under the other would miss its cookie. Not for an origin elsewhere, where the
// Host header is anybody's.
func onLoopbackAddress(run operation) operation {
	return func(x *exchange) (answer, error) {
		origin, err := x.origin()
		if err != nil {
			return answer{}, err
		}
		port, local := localPort(x.r.Host)
		if !local || !loopbackOrigin(origin) {
			return run(x)
		}
		to := url.URL{Scheme: "http", Host: "127.0.0.1" + port, Path: x.r.URL.Path, RawQuery: x.r.URL.RawQuery}
		return answer{status: http.StatusFound, header: map[string]string{"Location": to.String()}}, nil
	}
}

// localPort returns ":port", or "" where none is named, of a Host header that says
// localhost.
func localPort(host string) (port string, local bool) {
	name, number, err := net.SplitHostPort(host)
	if err != nil {
		return "", host == "localhost"
	}
	if name != "localhost" || strings.Trim(number, "0123456789") != "" || number == "" {
		return "", false
	}
	return ":" + number, true
}

func loopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost")
}
