package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/evergrant/evergrant/internal/httpapi"
)

// contract holds each request that the tests of this package make, and its answer, to
// openapi.json, and counts what of the document was seen.
type contract struct {
	doc *openapi3.T

	mu      sync.Mutex
	answers map[string]bool // operations that succeeded; guarded by mu
	codes   map[string]bool // codes of problems; guarded by mu
}

// agreed is the one contract of this package's tests, since what was never seen is known
// only once all of them have run.
var agreed = newContract()

func newContract() *contract {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.json")
	if err != nil {
		panic(err) // nothing can be tested
	}
	return &contract{doc: doc, answers: map[string]bool{}, codes: map[string]bool{}}
}

// TestMain fails a whole run in which a route never succeeded or a code never came.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := agreed.whole(); code == 0 && wholeRun() && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// wholeRun: no flag chooses among the tests.
func wholeRun() bool {
	for _, name := range []string{"test.run", "test.skip", "test.bench", "test.fuzz", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

func (c *contract) whole() error {
	var missing []error
	for path, item := range c.doc.Paths.Map() {
		for method := range item.Operations() {
			if !c.answers[method+" "+path] {
				missing = append(missing, fmt.Errorf("no test of this package got a success from %s %s", method, path))
			}
		}
	}
	for code := range httpapi.Codes() {
		if !c.codes[code] {
			missing = append(missing, fmt.Errorf("no test of this package got the problem %s", code))
		}
	}
	return errors.Join(missing...)
}

// exchanged is one request with its answer.
type exchanged struct {
	method, target string // target: path and query as they were sent
	requestHeader  http.Header
	requestBody    []byte
	status         int
	header         http.Header
	body           []byte
}

// check holds one exchange to the document.
func (c *contract) check(t *testing.T, e exchanged) {
	t.Helper()
	if err := c.fits(e); err != nil {
		t.Errorf("%s %s is answered %d, and that is not in openapi.json: %v\n%s", e.method, e.target, e.status, err, e.body)
	}
}

func (c *contract) fits(e exchanged) error {
	path, query, _ := strings.Cut(e.target, "?")
	template, item := c.find(path)
	// A function on AWS has some of the routes, and serve none under /iam: that every route is
	// somewhere is seen by its success.
	if item == nil || bytes.Contains(e.body, []byte("There is nothing at this path.")) {
		return c.fitsNothing(e, http.StatusNotFound)
	}
	method := e.method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	op := item.GetOperation(method)
	if op == nil || e.status == http.StatusMethodNotAllowed { // HEAD /callback
		return c.fitsNothing(e, http.StatusMethodNotAllowed)
	}
	if err := c.fitsAnswer(op, e); err != nil {
		return err
	}
	if e.status >= 400 {
		return nil
	}
	if e.method == method {
		c.mu.Lock()
		c.answers[method+" "+template] = true
		c.mu.Unlock()
	}
	if err := fitsRequest(item, op, e, query); err != nil {
		return fmt.Errorf("the request was taken, and is not as described: %w", err)
	}
	return nil
}

// find returns the path of the document that the path of a request is. The gateway's prefix
// is told in the document's introduction.
func (c *contract) find(path string) (string, *openapi3.PathItem) {
	if rest, ok := strings.CutPrefix(path, "/iam"); ok && strings.HasPrefix(rest, "/v1/") {
		path = rest
	}
	parts := strings.Split(path, "/")
	for template, item := range c.doc.Paths.Map() {
		want := strings.Split(template, "/")
		same := len(want) == len(parts)
		for n := range want {
			variable := strings.HasPrefix(want[n], "{")
			same = same && (want[n] == parts[n] && !variable || variable && regexp.MustCompile(`^[\w.-]+$`).MatchString(parts[n]) && parts[n] != "." && parts[n] != "..")
		}
		if same {
			return template, item
		}
	}
	return "", nil
}

// fitsNothing is for what the document does not have: unknown paths and methods.
func (c *contract) fitsNothing(e exchanged, status int) error {
	if e.status != status && !(e.method == http.MethodOptions && e.status == http.StatusForbidden) {
		return fmt.Errorf("what is not described is answered %d", status)
	}
	if strings.HasPrefix(e.header.Get("Content-Type"), "text/html") || e.method == http.MethodHead {
		return nil // to a browser, at /authorize/x
	}
	var v any
	if err := json.Unmarshal(e.body, &v); err != nil {
		return err
	}
	if err := c.doc.Components.Schemas["Problem"].Value.VisitJSON(v, schemaOptions()...); err != nil {
		return err
	}
	return c.note(e, "")
}

func schemaOptions() []openapi3.SchemaValidationOption {
	return []openapi3.SchemaValidationOption{openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation(), openapi3.MultiErrors()}
}

func (c *contract) fitsAnswer(op *openapi3.Operation, e exchanged) error {
	ref := op.Responses.Status(e.status)
	if ref == nil {
		ref = op.Responses.Default()
	}
	if ref == nil {
		return errors.New("no such status")
	}
	described := ref.Value
	if e.method == http.MethodHead {
		return nil // without a body there is nothing more to see
	}
	for name := range described.Headers {
		if e.status == http.StatusUnauthorized && e.header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	kind, _, err := mime.ParseMediaType(e.header.Get("Content-Type"))
	if err != nil {
		if len(described.Content) == 0 && len(e.body) == 0 {
			return nil
		}
		return err
	}
	media := described.Content[kind]
	if media == nil {
		return fmt.Errorf("the type %s is not described", kind)
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	var v any
	if err := json.Unmarshal(e.body, &v); err != nil {
		return err
	}
	if media.Schema != nil {
		if err := media.Schema.Value.VisitJSON(v, schemaOptions()...); err != nil {
			return err
		}
	}
	return c.note(e, *described.Description)
}

// note counts a problem's code, which has to be one that the answer's description names, if
// there is one.
func (c *contract) note(e exchanged, description string) error {
	if e.header.Get("Content-Type") != "application/problem+json" {
		return nil
	}
	var p struct {
		Code   string `json:"code"`
		Status int    `json:"status"`
		Type   string `json:"type"`
	}
	if err := json.Unmarshal(e.body, &p); err != nil {
		return err
	}
	if p.Status != e.status || p.Type != "/problems/"+p.Code {
		return fmt.Errorf("the problem says %d and %s", p.Status, p.Type)
	}
	if description != "" && !strings.Contains(description, "`"+p.Code+"`") {
		return fmt.Errorf("the problem %s is not described there", p.Code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.codes[p.Code] = true
	return nil
}

// fitsRequest holds a request that was taken to what is described.
func fitsRequest(item *openapi3.PathItem, op *openapi3.Operation, e exchanged, query string) error {
	sent, err := url.ParseQuery(query)
	if err != nil {
		return nil // a semicolon, which net/url refuses and a callback may hold
	}
	for name, values := range sent {
		p := parameter(slices.Concat(item.Parameters, op.Parameters), name)
		if p == nil {
			if op.OperationID == "callback" {
				continue // a provider may send more than it should
			}
			return fmt.Errorf("there is no parameter %s", name)
		}
		if err := fitsParameter(p, values[0]); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	if len(e.requestBody) == 0 {
		if op.RequestBody != nil && op.RequestBody.Value.Required {
			return errors.New("it has no body")
		}
		return nil
	}
	if op.RequestBody == nil {
		return errors.New("it has a body")
	}
	kind, _, err := mime.ParseMediaType(e.requestHeader.Get("Content-Type"))
	if err != nil {
		return err
	}
	media := op.RequestBody.Value.Content[kind]
	if media == nil {
		return fmt.Errorf("the type %s is not described", kind)
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	var v any
	if err := json.Unmarshal(e.requestBody, &v); err != nil {
		return err
	}
	return media.Schema.Value.VisitJSON(v, schemaOptions()...)
}

// parameter finds a parameter by its name. One of the form tag.{name} is a family.
func parameter(list openapi3.Parameters, name string) *openapi3.Parameter {
	for _, p := range list {
		if p.Value.In == "query" && (p.Value.Name == name || strings.HasSuffix(p.Value.Name, ".") && strings.HasPrefix(name, p.Value.Name)) {
			return p.Value
		}
	}
	return nil
}

func fitsParameter(p *openapi3.Parameter, text string) error {
	var v any = text
	if types := p.Schema.Value.Type; types.Is("integer") || types.Is("boolean") {
		d := json.NewDecoder(strings.NewReader(text))
		if err := d.Decode(&v); err != nil {
			return err
		}
	}
	return p.Schema.Value.VisitJSON(v, schemaOptions()...)
}

// underContract is a client's way to the network on which each answer of an origin is held
// to the contract.
type underContract struct {
	t      *testing.T
	origin func() string
}

func (u underContract) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.String(), u.origin()) {
		return http.DefaultTransport.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = http.NoBody
		if len(sent) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(sent))
		}
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	checkHeaders(u.t, res.StatusCode, res.Header)
	agreed.check(u.t, exchanged{r.Method, r.URL.RequestURI(), r.Header, sent, res.StatusCode, res.Header, body})
	return res, nil
}

// A contract that lets anything pass would be none.
func TestTheContractIsHeld(t *testing.T) {
	problem := func(code string, status int) []byte {
		return []byte(fmt.Sprintf(`{"type":"/problems/%s","title":"t","status":%d,"detail":"d","code":"%s","request_id":"r"}`, code, status, code))
	}
	asJSON := http.Header{"Content-Type": {"application/json"}}
	asProblem := http.Header{"Content-Type": {"application/problem+json"}}
	receipt := []byte(`{"disconnected_at":"2026-01-01T00:00:00Z","revoked":"none","proof":"none","in_flight":false}`)
	good := exchanged{"DELETE", "/v1/connections/conn_1", nil, nil, 200, asJSON, receipt}
	for name, change := range map[string]func(*exchanged){
		"":                  func(*exchanged) {},
		"an unknown member": func(e *exchanged) { e.body = bytes.Replace(receipt, []byte("{"), []byte(`{"x":1,`), 1) },
		"a missing member":  func(e *exchanged) { e.body = []byte(`{}`) },
		"another type":      func(e *exchanged) { e.body = bytes.Replace(receipt, []byte("false"), []byte(`"no"`), 1) },
		"no time":           func(e *exchanged) { e.body = bytes.Replace(receipt, []byte("2026-01-01T00:00:00Z"), []byte(`soon`), 1) },
		"another word": func(e *exchanged) {
			e.body = bytes.Replace(receipt, []byte(`"revoked":"none"`), []byte(`"revoked":"all"`), 1)
		},
		"another status":             func(e *exchanged) { e.status = 202 },
		"another media type":         func(e *exchanged) { e.header = http.Header{"Content-Type": {"text/plain"}} },
		"an unknown path":            func(e *exchanged) { e.target = "/v1/connection/conn_1" },
		"an unknown method":          func(e *exchanged) { e.method = "PUT" },
		"an unknown parameter":       func(e *exchanged) { e.target += "?x=1" },
		"a body where there is none": func(e *exchanged) { e.requestBody = []byte("{}") },
		"a code that is elsewhere": func(e *exchanged) {
			e.status, e.header, e.body = 409, asProblem, problem("missing_scope", 409)
		},
		"a problem of another status": func(e *exchanged) {
			e.status, e.header, e.body = 404, asProblem, problem("not_found", 400)
		},
		"an unknown code": func(e *exchanged) { e.status, e.header, e.body = 404, asProblem, problem("lost", 404) },
		"a 401 without its challenge": func(e *exchanged) {
			e.status, e.header, e.body = 401, asProblem, problem("unauthorized", 401)
		},
	} {
		e := good
		change(&e)
		if err := newContract().fits(e); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := newContract().whole(); err == nil || strings.Count(err.Error(), "\n")+1 != len(httpapi.Codes())+len(httpapi.Routes())+2 {
		t.Errorf("a run without a test lacks %v", err)
	}
}
