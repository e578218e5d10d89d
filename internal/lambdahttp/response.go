package lambdahttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// recorder keeps what a handler writes, by the rules of net/http's server: the
// header is fixed by the first write, and some statuses have no body.
type recorder struct {
	header http.Header // the handler's own, still changing
	sent   http.Header // as it was at WriteHeader; nil before
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

// WriteHeader fixes status and header at its first call. An informational status
// is dropped, since the gateway cannot send one ahead.
func (w *recorder) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid status %d", status))
	}
	if w.sent == nil && status >= 200 {
		w.sent, w.status = w.header.Clone(), status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.sent == nil {
		w.WriteHeader(http.StatusOK)
	}
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return w.body.Write(b)
}

// answer is the event for what was written to a request of this method.
func (w *recorder) answer(method string) events.APIGatewayV2HTTPResponse {
	if w.sent == nil {
		w.WriteHeader(http.StatusOK)
	}
	h, body := w.sent, w.body.Bytes()
	if _, typed := h["Content-Type"]; !typed && len(body) > 0 && h.Get("Content-Encoding") == "" {
		h.Set("Content-Type", http.DetectContentType(body))
	}
	if w.status == http.StatusNotModified {
		h.Del("Content-Type")
	}
	if method == http.MethodHead {
		body = nil
	}
	a := events.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: map[string]string{}}
	for name, values := range h {
		switch name {
		case "Set-Cookie":
			a.Cookies = cleaned(values)
		case "Connection", "Content-Length", "Transfer-Encoding":
			// They tell of a connection, which is the gateway's.
		default:
			if len(values) > 0 {
				// One line with commas means the same as several (RFC 9110, 5.3).
				a.Headers[strings.ToLower(name)] = strings.Join(cleaned(values), ", ")
			}
		}
	}
	// Valid UTF-8 passes through JSON unchanged; of anything else it would make U+FFFD.
	if a.Body = string(body); !utf8.Valid(body) {
		a.Body, a.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return a
}

// cleaned makes line ends in values spaces, as net/http does, so that no value
// can add a header of its own.
func cleaned(values []string) []string {
	spaces := strings.NewReplacer("\r", " ", "\n", " ")
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.TrimSpace(spaces.Replace(v))
	}
	return out
}

// problem is an RFC 9457 answer for what the handler never saw or did not survive.
func problem(status int, code, detail, requestID string) events.APIGatewayV2HTTPResponse {
	w := &recorder{header: http.Header{
		"Cache-Control":          {"no-store"},
		"Content-Type":           {"application/problem+json"},
		"Referrer-Policy":        {"no-referrer"},
		"X-Content-Type-Options": {"nosniff"},
	}}
	w.WriteHeader(status)
	// Neither encoding a flat struct of strings nor writing to a buffer can fail.
	_ = json.NewEncoder(w).Encode(struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}{"/problems/" + code, http.StatusText(status), status, detail, code, requestID})
	return w.answer(http.MethodGet)
}
