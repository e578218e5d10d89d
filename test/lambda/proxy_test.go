package lambda_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// proxy is the way of one stack's functions to AWS. It tells who asks by the access key of
// the signature's credential, so that the functions need no hook; it lets through what the
// role may do, and answers AccessDeniedException to everything else, as IAM would.
type proxy struct {
	t     *testing.T
	cloud *cloud
	roles *roles
	at    string // address

	toDynamoDB, toMoto http.Handler

	mu   sync.Mutex // guards what follows
	fail func(request) bool
}

func newProxy(t *testing.T, c *cloud, r *roles) *proxy {
	t.Helper()
	p := &proxy{t: t, cloud: c, roles: r, toDynamoDB: forward(t, c.dynamodb), toMoto: forward(t, c.moto)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.at = server.URL
	return p
}

func forward(t *testing.T, address string) http.Handler {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
}

// failing makes requests fail, as if their service were down, until it is called with nil.
func (p *proxy) failing(which func(request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = which
}

func (p *proxy) fails(q request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fail != nil && p.fail(q)
}

var credential = regexp.MustCompile(`Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/aws4_request`)

// accessKey is the key of a role of the template, and roleOf the way back.
func accessKey(role string) string { return "AKID" + role }
func roleOf(key string) string     { return strings.TrimPrefix(key, "AKID") }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the function ended meanwhile
	}
	found := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if found == nil || found[2] != region {
		p.t.Errorf("a request of AWS is not signed for %s: %s", region, r.Header.Get("X-Amz-Target"))
		http.Error(w, "", http.StatusForbidden)
		return
	}
	service, role := found[3], roleOf(found[1])
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		p.t.Errorf("%s of %s is not JSON", r.Header.Get("X-Amz-Target"), role)
	}
	var judged []request
	if role != kitKey { // the tests' own key may do everything
		judged = p.requests(role, service, operation, in)
	}
	for _, q := range judged {
		if !p.roles.permits(q) {
			refuse(w, http.StatusBadRequest, "AccessDeniedException", "User is not authorized to perform: "+q.action+" on resource: "+q.resource)
			return
		}
		if p.fails(q) {
			refuse(w, http.StatusInternalServerError, "InternalServerError", "The request could not be processed")
			return
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if service == "dynamodb" {
		// Nobody checks the signature, and tables belong to the key that made them.
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Credential="+found[1]+"/", "Credential="+kitKey+"/", 1))
		p.toDynamoDB.ServeHTTP(w, r)
		return
	}
	p.toMoto.ServeHTTP(w, r)
}

func refuse(w http.ResponseWriter, status int, kind, text string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": text})
}

// requests are what IAM would judge of one call. A call that names several things is judged
// for each. What is not known here fails the test, so that nothing passes unjudged.
func (p *proxy) requests(role, service, operation string, in map[string]any) []request {
	q := request{role: role, action: service + ":" + operation, context: map[string][]string{
		"aws:PrincipalArn":    {p.roles.stack.attribute(role, "Arn")},
		"aws:SecureTransport": {"true"}, // which loopback stands for
	}}
	var things []string
	switch service {
	case "dynamodb":
		q.resource = tableARN(in)
		if key := text(in, "Key", "pk", "S"); key != "" {
			q.context["dynamodb:LeadingKeys"] = []string{key}
		}
		return []request{q}
	case "kms":
		for name, v := range at(in, "EncryptionContext").(map[string]any) {
			q.context["kms:EncryptionContext:"+name] = []string{fmt.Sprint(v)}
		}
		things = []string{text(in, "KeyId")}
	case "sqs":
		q.action = strings.TrimSuffix(q.action, "Batch")
		url := text(in, "QueueUrl")
		things = []string{arn("sqs", url[strings.LastIndexByte(url, '/')+1:])}
	case "ssm":
		for _, name := range texts(in, "Names") {
			things = append(things, arn("ssm", "parameter/"+strings.TrimPrefix(name, "/")))
		}
	case "secretsmanager":
		things = []string{arn("secretsmanager", "secret:"+text(in, "SecretId")+"-AbCdEf")}
	case "events":
		for _, entry := range list(in, "Entries") {
			things = append(things, arn("events", "event-bus/"+text(entry, "EventBusName")))
		}
	}
	var out []request
	for _, thing := range things {
		q.resource = thing
		out = append(out, q)
	}
	if len(out) == 0 {
		p.t.Errorf("%s asks for %s:%s, which these tests do not know", role, service, operation)
	}
	return out
}

func tableARN(in map[string]any) string {
	table := text(in, "TableName")
	if !strings.HasPrefix(table, "arn:") {
		table = arn("dynamodb", "table/"+table)
	}
	if index := text(in, "IndexName"); index != "" {
		table += "/index/" + index
	}
	return table
}
