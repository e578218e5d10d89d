package lambdahttp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// EventFor is the gateway's half: the event that an HTTP API with the stage
// $default makes of r. It reads the body. Unlike the gateway, and like a
// function URL, it leaves the path escaped, so that a function answers just as a
// server does. Without an authorizer on it, the event carries no identity.
func EventFor(r *http.Request) (events.APIGatewayV2HTTPRequest, error) {
	body, err := readBody(r)
	if err != nil {
		return events.APIGatewayV2HTTPRequest{}, err
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // absent in a client's request, absolute in one for a proxy
		target = r.URL.RequestURI()
	}
	path, query, _ := strings.Cut(target, "?")
	e := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: "$default", RawPath: path, RawQueryString: query,
		Headers: map[string]string{},
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: "$default", Stage: "$default", RequestID: rand.Text(), DomainName: r.Host,
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: path, Protocol: "HTTP/1.1", SourceIP: "127.0.0.1", UserAgent: r.UserAgent(),
			},
		},
	}
	if e.RequestContext.DomainName == "" {
		e.RequestContext.DomainName = r.URL.Host
	}
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.RequestContext.HTTP.SourceIP = ip
	}
	for name, values := range r.Header {
		if name == "Cookie" {
			for pair := range strings.SplitSeq(strings.Join(values, ";"), ";") {
				e.Cookies = append(e.Cookies, strings.TrimSpace(pair))
			}
			continue
		}
		e.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	if len(body) == 0 {
		return e, nil
	}
	e.Headers["content-length"] = strconv.Itoa(len(body))
	if e.Body = string(body); !passedAsText(r.Header.Get("Content-Type")) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return e, nil
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	return io.ReadAll(r.Body)
}

// passedAsText reports whether the gateway hands a body of this type over as it
// is; every other one, forms included, it encodes in base64.
func passedAsText(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(t, "text/")
}

// Transport is a way to a function without a network: a client that uses it
// speaks to the function as if a gateway stood between. Event and answer pass
// through JSON, as they do on Lambda.
type Transport func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }()
	}
	sent, err := EventFor(r)
	if err != nil {
		return nil, err
	}
	var e events.APIGatewayV2HTTPRequest
	if err := throughJSON(sent, &e); err != nil {
		return nil, err
	}
	given, err := t(r.Context(), e)
	if err != nil {
		return nil, err
	}
	var a events.APIGatewayV2HTTPResponse
	if err := throughJSON(given, &a); err != nil {
		return nil, err
	}
	return responseOf(a, r)
}

func throughJSON(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// responseOf is what the gateway sends to r's client for the answer a.
func responseOf(a events.APIGatewayV2HTTPResponse, r *http.Request) (*http.Response, error) {
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return nil, fmt.Errorf("answer of the function: %w", err)
		}
	}
	h := http.Header{}
	for name, value := range a.Headers {
		h.Set(name, value)
	}
	for _, cookie := range a.Cookies {
		h.Add("Set-Cookie", cookie)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.StatusCode, http.StatusText(a.StatusCode)), StatusCode: a.StatusCode,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}
