package simprovider

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxBody bounds a request's body, in bytes. The longest legal one, a token
// request with a long code, is a tenth of it.
const maxBody = 64 << 10

// request is a request that has been read to its end. Reading it before acting is
// what lets net/http notice, during a hang, that the client has gone.
type request struct {
	http        *http.Request
	query, form url.Values
	body        []byte
	// malformed says that the query or the form could not be decoded, or names a
	// parameter twice, which RFC 6749 section 3.2 forbids.
	malformed bool
	now       time.Time
	variables map[string]string // of the path, at an entry
}

func readRequest(w http.ResponseWriter, r *http.Request, multipartToo bool) (*request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	q := &request{http: r, body: body, form: url.Values{}}
	var queryErr, formErr error
	q.query, queryErr = url.ParseQuery(r.URL.RawQuery)
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case kind == "application/x-www-form-urlencoded":
		q.form, formErr = url.ParseQuery(string(body))
	case kind == "multipart/form-data" && multipartToo:
		q.form, formErr = readMultipart(body, params["boundary"])
	}
	q.malformed = queryErr != nil || formErr != nil || repeats(q.query) || repeats(q.form)
	return q, nil
}

func readMultipart(body []byte, boundary string) (url.Values, error) {
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(maxBody)
	if err != nil {
		return url.Values{}, err
	}
	return form.Value, nil
}

func repeats(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

// param returns a parameter of an authorization request, which may stand in the
// form, in the query, or in both.
func (q *request) param(name string) string {
	if q.form.Has(name) {
		return q.form.Get(name)
	}
	return q.query.Get(name)
}

// bearer returns the access token of the Authorization header (RFC 6750 section
// 2.1), or "".
func (q *request) bearer() string {
	scheme, token, _ := strings.Cut(q.http.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// answer is a whole response, not yet written, so that a fault may still spoil it.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newAnswer(status int, contentType string, body []byte) answer {
	h := http.Header{}
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	return answer{status: status, header: h, body: body}
}

// jsonAnswer encodes v, which must be encodable.
func jsonAnswer(status int, v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		return textAnswer(http.StatusInternalServerError, "The simulator could not encode its answer.\n")
	}
	return newAnswer(status, "application/json; charset=utf-8", body)
}

func textAnswer(status int, body string) answer {
	return newAnswer(status, "text/plain; charset=utf-8", []byte(body))
}

func redirectAnswer(location string) answer {
	a := textAnswer(http.StatusFound, "")
	a.header.Set("Location", location)
	return a
}

// with adds a header field.
func (a answer) with(name, value string) answer {
	a.header.Add(name, value)
	return a
}

func (a answer) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client has gone: there is nobody left to tell
}
