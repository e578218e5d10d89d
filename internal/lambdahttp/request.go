package lambdahttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// maxBody is the most of a body, in bytes after decoding, that a handler sees.
// Lambda itself takes no synchronous event over 6 MB.
const maxBody = 6 << 20

var (
	errBodyTooLarge = errors.New("body too large")
	errUnreadable   = errors.New("unreadable request") // without the cause: that would print the query, and codes are in it
)

// newRequest makes the request that net/http's server would have made.
func newRequest(ctx context.Context, e events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body, err := bodyOf(e)
	if err != nil {
		return nil, err
	}
	target := pathOf(e)
	if e.RawQueryString != "" {
		target += "?" + e.RawQueryString
	}
	u, err := url.ParseRequestURI(target)
	method := e.RequestContext.HTTP.Method
	if err != nil || method == "" || !strings.HasPrefix(target, "/") {
		return nil, errUnreadable
	}
	ctx = context.WithValue(ctx, callKey{}, callFrom(e.RequestContext))
	r, err := http.NewRequestWithContext(ctx, method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, errUnreadable
	}
	r.URL, r.RequestURI, r.GetBody = u, target, nil
	r.Header = headerOf(e)
	r.Host = e.RequestContext.DomainName
	// The gateway tells no port; 0 keeps the form that net.SplitHostPort takes.
	r.RemoteAddr = net.JoinHostPort(e.RequestContext.HTTP.SourceIP, "0")
	return r, nil
}

func callFrom(c events.APIGatewayV2HTTPRequestContext) call {
	made := call{origin: "https://" + c.DomainName, requestID: c.RequestID}
	if c.Authorizer != nil && c.Authorizer.IAM != nil {
		made.caller = Caller{UserARN: c.Authorizer.IAM.UserARN, AccountID: c.Authorizer.IAM.AccountID}
	}
	return made
}

func bodyOf(e events.APIGatewayV2HTTPRequest) ([]byte, error) {
	if len(e.Body) > base64.StdEncoding.EncodedLen(maxBody) {
		return nil, errBodyTooLarge
	}
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, errUnreadable
		}
	}
	if len(body) > maxBody {
		return nil, errBodyTooLarge
	}
	return body, nil
}

// pathOf is the path without the stage, escaped as far as it must be.
func pathOf(e events.APIGatewayV2HTTPRequest) string {
	path := e.RawPath
	if stage := e.RequestContext.Stage; stage != "" && stage != "$default" {
		rest, ok := strings.CutPrefix(path, "/"+stage)
		switch {
		case ok && rest == "":
			path = "/"
		case ok && rest[0] == '/':
			path = rest
		}
	}
	return escapeDecoded(path)
}

// escapeDecoded escapes what a decoded path may hold and an escaped one never
// does: control characters, space, "?", "#", and a "%" that begins no escape.
// Everything else stays as it came, as net/http leaves it too.
func escapeDecoded(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		bare := c == '%' && (i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]))
		if c <= ' ' || c == 0x7f || c == '?' || c == '#' || bare {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// headerOf leaves out what net/http does not show as a header either (host,
// transfer-encoding), and a cookie header: the cookies field alone counts.
func headerOf(e events.APIGatewayV2HTTPRequest) http.Header {
	h := make(http.Header, len(e.Headers)+1)
	for name, value := range e.Headers {
		switch name := http.CanonicalHeaderKey(name); name {
		case "Cookie", "Host", "Transfer-Encoding":
		default:
			h.Set(name, value)
		}
	}
	if len(e.Cookies) > 0 {
		h.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	return h
}
