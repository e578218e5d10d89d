package lambda_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// request is what AWS would judge of one call: who wants to do what to which thing.
type request struct {
	role     string // its name in the template
	action   string
	resource string // ARN
	// context are the condition keys that AWS derives from a request, with their values.
	// A key that a request does not have is absent.
	context map[string][]string
}

// statement is one statement of a role, resolved.
type statement struct {
	role, sid          string
	actions, resources []string
	condition          map[string]any
}

// roles are what the roles of a stack may do, and what their queues refuse whoever asks.
type roles struct {
	stack   *stack
	allowed []statement
	denied  []statement // of queue policies; they name no role

	mu   sync.Mutex // guards what follows
	used map[string]bool
	// refused are the requests that no statement allows.
	refused []string
}

func newRoles(s *stack) *roles {
	s.t.Helper()
	r := &roles{stack: s, used: map[string]bool{}}
	for name, resource := range at(s.template, "Resources").(map[string]any) {
		if c := text(resource, "Condition"); c != "" && !s.condition(c) {
			continue
		}
		p := at(resource, "Properties")
		switch text(resource, "Type") {
		case "AWS::IAM::Role":
			for _, policy := range list(p, "Policies") {
				r.allowed = append(r.allowed, s.statements(name, at(policy, "PolicyDocument"))...)
			}
		case "AWS::IAM::RolePolicy":
			r.allowed = append(r.allowed, s.statements(text(p, "RoleName", "Ref"), at(p, "PolicyDocument"))...)
		case "AWS::SQS::QueuePolicy":
			r.denied = append(r.denied, s.statements("", at(p, "PolicyDocument"))...)
		}
	}
	return r
}

func (s *stack) statements(role string, document any) []statement {
	s.t.Helper()
	var out []statement
	for _, raw := range list(document, "Statement") {
		v := s.value(raw)
		condition, _ := at(v, "Condition").(map[string]any)
		if effect := text(v, "Effect"); effect != "Allow" && role != "" || effect != "Deny" && role == "" {
			s.t.Fatalf("a statement %s of %q has the effect %s", text(v, "Sid"), role, effect)
		}
		out = append(out, statement{role, text(v, "Sid"), texts(v, "Action"), texts(v, "Resource"), condition})
	}
	return out
}

// permits judges a request as IAM does, and notes which parts of which statement it needed.
func (r *roles) permits(q request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.denied {
		if s.covers(q) && r.holds(s.condition, q.context, nil) {
			r.refused = append(r.refused, r.describe(q)+" by the queue's policy "+s.sid)
			return false
		}
	}
	permitted := false
	for _, s := range r.allowed {
		if s.role == q.role && s.covers(q) && r.holds(s.condition, q.context, nil) {
			permitted = true
			for _, part := range r.parts(s) {
				if s.only(part).covers(q) && r.holds(s.condition, q.context, &part) {
					r.used[part.String()] = true
				}
			}
		}
	}
	if !permitted {
		r.refused = append(r.refused, r.describe(q))
	}
	return permitted
}

func (r *roles) describe(q request) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(q.context)) {
		words = append(words, fmt.Sprintf("%s=%s", key, strings.Join(q.context[key], ",")))
	}
	return strings.TrimSpace(strings.Join([]string{q.role, q.action, r.stack.logical(q.resource), strings.Join(words, " ")}, " "))
}

func (s statement) covers(q request) bool {
	return slices.ContainsFunc(s.actions, func(p string) bool { return like(p, q.action) }) &&
		slices.ContainsFunc(s.resources, func(p string) bool { return like(p, q.resource) })
}

// part is the smallest thing that a statement grants: one action on one resource, under one
// of the values that a condition admits.
type part struct {
	role, sid, action, resource string
	key, value                  string // of a condition with several values, else empty
	logical                     string
}

func (p part) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s/%s %s %s %s", p.role, p.sid, p.action, p.logical, p.value))
}

func (s statement) only(p part) statement {
	s.actions, s.resources = []string{p.action}, []string{p.resource}
	return s
}

func (r *roles) parts(s statement) []part {
	var out []part
	for _, action := range s.actions {
		for _, resource := range s.resources {
			p := part{role: s.role, sid: s.sid, action: action, resource: resource, logical: r.stack.logical(resource)}
			several := false
			for _, operator := range slices.Sorted(maps.Keys(s.condition)) {
				for key := range s.condition[operator].(map[string]any) {
					for _, value := range texts(s.condition[operator], key) {
						if operator != "Null" && len(texts(s.condition[operator], key)) > 1 {
							several = true
							p.key, p.value = key, value
							out = append(out, p)
						}
					}
				}
			}
			if !several {
				out = append(out, p)
			}
		}
	}
	return out
}

// granted is every part of every statement.
func (r *roles) granted() []string {
	var out []string
	for _, s := range r.allowed {
		for _, p := range r.parts(s) {
			out = append(out, p.String())
		}
	}
	return out
}

// holds evaluates a condition. With a part, its value alone counts for its key. An operator
// that is not known here fails the test.
func (r *roles) holds(condition map[string]any, context map[string][]string, only *part) bool {
	for operator, tests := range condition {
		for key := range tests.(map[string]any) {
			want := texts(tests, key)
			if only != nil && only.key == key && operator != "Null" {
				want = []string{only.value}
			}
			if !r.test(operator, want, context[key]) {
				return false
			}
		}
	}
	return true
}

func (r *roles) test(operator string, want, got []string) bool {
	among := func(same func(pattern, value string) bool) func(string) bool {
		return func(value string) bool {
			return slices.ContainsFunc(want, func(pattern string) bool { return same(pattern, value) })
		}
	}
	equal := func(a, b string) bool { return a == b }
	switch operator {
	case "StringEquals", "Bool":
		return slices.ContainsFunc(got, among(equal))
	case "ArnNotEquals":
		return !slices.ContainsFunc(got, among(like))
	case "Null":
		return (len(got) == 0) == (want[0] == "true")
	case "ForAllValues:StringLike":
		return !slices.ContainsFunc(got, func(value string) bool { return !among(like)(value) }) // also of none
	}
	r.stack.t.Errorf("template.yaml has a condition %s, which these tests do not know", operator)
	return false
}

// ledger gathers, of all stacks, what the roles grant, what of it was used, and what was
// refused.
type ledger struct {
	mu                     sync.Mutex // guards what follows
	granted, used, refused map[string]bool
}

func (l *ledger) add(r *roles) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil {
		l.granted, l.used, l.refused = map[string]bool{}, map[string]bool{}, map[string]bool{}
	}
	for _, p := range r.granted() {
		l.granted[p] = true
	}
	maps.Copy(l.used, r.used)
	for _, q := range r.refused {
		l.refused[q] = true
	}
}

// outOfReach are the grants that no flow can use, and why. A * stands for any text.
var outOfReach = map[string]string{
	"*/Log logs:*": "Lambda writes what a function prints, in the name of its role; no server here stands for CloudWatch",
	"TickRole/Wake lambda:InvokeFunction RefreshFunction": "EventBridge Scheduler calls with it; the tests play the scheduler",
}

// compare holds against each other what the roles grant and what was used of it.
func (l *ledger) compare(t *testing.T) {
	for _, q := range slices.Sorted(maps.Keys(l.refused)) {
		t.Errorf("template.yaml grants too little: %s", q)
	}
	needed := map[string]bool{}
	for _, g := range slices.Sorted(maps.Keys(l.granted)) {
		if l.used[g] {
			continue
		}
		known := false
		for pattern := range outOfReach {
			if like(pattern, g) {
				known, needed[pattern] = true, true
			}
		}
		if !known {
			t.Errorf("template.yaml grants what no flow uses: %s", g)
		}
	}
	for pattern := range outOfReach {
		if !needed[pattern] {
			t.Errorf("%s is listed as out of reach, and nothing like it is granted and unused", pattern)
		}
	}
	t.Logf("%d permissions are granted, %d of them were used", len(l.granted), len(l.used))
}

// forbidden are requests that each role must be denied, whatever else changes: what a function
// that was taken over could do most harm with.
func forbidden(t *testing.T, c *cloud) {
	for mode, parameters := range map[string]map[string]string{"confirm": nil, "cookie": {"CookieMode": "true"}} {
		s := newStack(t, c, "evergrant-forbidden-"+mode, parameters)
		r := newRoles(s)
		connections, authorizations := s.attribute("ConnectionsTable", "Arn"), s.attribute("AuthorizationsTable", "Arn")
		row := func(role, action, key string) request {
			return request{role, "dynamodb:" + action, connections, map[string][]string{"dynamodb:LeadingKeys": {key}}}
		}
		seal := func(role, action, deployment, purpose string) request {
			return request{role, "kms:" + action, s.attribute("SealingKey", "Arn"), map[string][]string{
				"kms:EncryptionContext:deployment": {deployment}, "kms:EncryptionContext:purpose": {purpose},
			}}
		}
		wrong := []request{
			row("AuthorizeRole", "GetItem", "conn_1"), row("AuthorizeRole", "UpdateItem", "conn_1"), row("AuthorizeRole", "GetItem", "sys#datakey#token#primary"),
			row("CallbackRole", "UpdateItem", "sys#datakey#flow#primary"), row("CallbackRole", "GetItem", "sys#cursor"), row("CallbackRole", "GetItem", "ext#a#b"),
			seal("AuthorizeRole", "Decrypt", s.name, "token"), seal("CallbackRole", "Encrypt", s.name, "flow"), seal("RefreshRole", "Decrypt", s.name, "flow"),
			{"RefreshRole", "dynamodb:DeleteItem", authorizations, nil},
			{"AuthorizeRole", "dynamodb:DeleteItem", authorizations, nil},
			{"AuthorizeRole", "ssm:GetParameters", arn("ssm", "parameter/evergrant/askfred"), nil},
			{"AuthorizeRole", "sqs:SendMessage", s.attribute("RescueQueue", "Arn"), nil},
			{"CallbackRole", "sqs:SendMessage", s.attribute("ChunkQueue", "Arn"), nil},
		}
		if mode == "confirm" {
			wrong = append(wrong, row("CallbackRole", "GetItem", "conn_1"), row("CallbackRole", "UpdateItem", "conn_1"), seal("CallbackRole", "Decrypt", s.name, "token"),
				request{"CallbackRole", "ssm:GetParameters", arn("ssm", "parameter/evergrant/askfred"), nil})
		}
		for _, role := range []string{"AuthorizeRole", "CallbackRole", "RefreshRole", "ApiRole"} {
			wrong = append(wrong, seal(role, "Decrypt", "another-stack", "token"), seal(role, "Decrypt", "another-stack", "flow"),
				row(role, "DeleteItem", "conn_1"), row(role, "PutItem", "conn_1"),
				request{role, "kms:ScheduleKeyDeletion", s.attribute("SealingKey", "Arn"), nil}, request{role, "dynamodb:DeleteTable", connections, nil},
				request{role, "ssm:GetParameters", arn("ssm", "parameter/other/secret"), nil}, request{role, "secretsmanager:GetSecretValue", arn("secretsmanager", "secret:other-AbCdEf"), nil})
			if role != "ApiRole" && role != "RefreshRole" {
				wrong = append(wrong, request{role, "dynamodb:Scan", connections, nil},
					request{role, "dynamodb:Query", connections + "/index/by_owner", nil}, request{role, "dynamodb:Query", connections + "/index/due", nil})
			}
		}
		for _, q := range wrong {
			if r.permits(q) {
				t.Errorf("in %s mode template.yaml allows: %s", mode, r.describe(q))
			}
		}
	}
}

// like matches * against any text and ? against one character, as IAM does.
func like(pattern, text string) bool {
	switch {
	case text == "":
		return strings.Trim(pattern, "*") == ""
	case pattern == "":
		return false
	case pattern[0] == '*':
		return like(pattern[1:], text) || like(pattern, text[1:])
	case pattern[0] == '?' || pattern[0] == text[0]:
		return like(pattern[1:], text[1:])
	}
	return false
}

// TestRolesAreJudgedAsByIAM holds the judge itself to cases that IAM's documents decide.
func TestRolesAreJudgedAsByIAM(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true},
		{"a*", "a", true},
		{"a*c", "abbc", true},
		{"a*c", "abb", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"", "a", false},
		{"a", "", false},
		{"a", "ab", false},
		{"*/*", "x/y/z", true},
	} {
		if like(c.pattern, c.text) != c.want {
			t.Errorf("%q like %q: %v", c.text, c.pattern, !c.want)
		}
	}
	s := &stack{t: t, name: "x", template: readTemplate(t), made: map[string]physical{}}
	rows := map[string]any{
		"ForAllValues:StringLike": map[string]any{"dynamodb:LeadingKeys": []any{"sys#*"}},
		"Null":                    map[string]any{"dynamodb:LeadingKeys": "false"},
	}
	flow := map[string]any{"StringEquals": map[string]any{"purpose": []any{"flow", "token"}}}
	r := &roles{stack: s, used: map[string]bool{}, allowed: []statement{
		{"A", "Rows", []string{"dynamodb:GetItem", "dynamodb:Scan"}, []string{"table"}, rows},
		{"A", "Seal", []string{"kms:Decrypt"}, []string{"key"}, flow},
		{"A", "Send", []string{"sqs:SendMessage"}, []string{"queue"}, nil},
		{"B", "Send", []string{"sqs:SendMessage"}, []string{"queue"}, nil},
	}, denied: []statement{
		{"", "Own", []string{"sqs:SendMessage"}, []string{"queue"}, map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": []any{"A"}}}},
	}}
	key := func(k string) map[string][]string { return map[string][]string{"dynamodb:LeadingKeys": {k}} }
	for _, c := range []struct {
		q    request
		want bool
	}{
		{request{"A", "dynamodb:GetItem", "table", key("sys#1")}, true},
		{request{"A", "dynamodb:GetItem", "table", key("conn_1")}, false},
		{request{"A", "dynamodb:GetItem", "table", map[string][]string{"dynamodb:LeadingKeys": {"sys#1", "conn_1"}}}, false},
		{request{"A", "dynamodb:Scan", "table", nil}, false}, // a scan has no leading key
		{request{"A", "dynamodb:PutItem", "table", key("sys#1")}, false},
		{request{"B", "dynamodb:GetItem", "table", key("sys#1")}, false},
		{request{"A", "kms:Decrypt", "key", map[string][]string{"purpose": {"flow"}}}, true},
		{request{"A", "kms:Decrypt", "key", nil}, false},
		{request{"A", "kms:Decrypt", "other", map[string][]string{"purpose": {"flow"}}}, false},
		{request{"A", "sqs:SendMessage", "queue", map[string][]string{"aws:PrincipalArn": {"A"}}}, true},
		{request{"B", "sqs:SendMessage", "queue", map[string][]string{"aws:PrincipalArn": {"B"}}}, false},
	} {
		if r.permits(c.q) != c.want {
			t.Errorf("%+v: %v", c.q, !c.want)
		}
	}
	want := []string{"A/Rows dynamodb:GetItem table", "A/Seal kms:Decrypt key flow", "A/Send sqs:SendMessage queue"}
	if got := slices.Sorted(maps.Keys(r.used)); !slices.Equal(got, want) {
		t.Errorf("used %q", got)
	}
}
