package config

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

func (r *reader) apiKeys(f Field) {
	for _, item := range r.items(f) {
		var k APIKey
		known := r.rights(&k.Rights)
		known["name"] = func(f Field) { k.Name = r.nameText(f) }
		known["hash"] = func(f Field) { k.Hash = r.keyHash(f) }
		known["previous"] = func(f Field) { k.Previous = r.previousKey(f) }
		got := r.object(item, known)
		r.needs(item, "name", "hash", "allow", "integrations", "owners")
		r.adminOfAll(got, k.Rights)
		if f, ok := got["previous"]; ok && k.Previous.Hash == k.Hash {
			r.fail(f, "is the key itself")
		}
		for _, other := range r.config.APIKeys {
			if f, ok := got["name"]; ok && other.Name == k.Name {
				r.fail(f, "is the name of another key; a key that replaces it goes into the same entry, the old one under previous")
			}
			if f, ok := got["hash"]; ok && (other.Hash == k.Hash || other.Previous.Hash == k.Hash) {
				r.fail(f, "is the hash of another key; make a new key for each caller")
			}
			if f, ok := got["previous"]; ok && k.Previous.Hash != "" && (other.Hash == k.Previous.Hash || other.Previous.Hash == k.Previous.Hash) {
				r.fail(f, "holds the hash of another key")
			}
		}
		r.config.APIKeys = append(r.config.APIKeys, k)
	}
}

func (r *reader) keyHash(f Field) string {
	s, ok := r.text(f)
	digits, found := strings.CutPrefix(s, "sha256:")
	if ok && (!found || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "") {
		// The value is not quoted: it may be the key itself.
		r.fail(f, `must be "sha256:" and the 64 lower-case hex digits of the key's SHA-256; evergrant keys new prints it`)
	}
	return s
}

// previousKey reads a key that is replaced. It has to end, or nobody would ever know
// whether it may be taken out.
func (r *reader) previousKey(f Field) PreviousKey {
	var p PreviousKey
	r.object(f, keys{
		"hash": func(f Field) { p.Hash = r.keyHash(f) },
		"until": func(f Field) {
			s, ok := r.text(f)
			t, err := time.Parse(time.RFC3339, s)
			if ok && err != nil {
				r.fail(f, "must be a time such as 2026-01-31T12:00:00Z, in quotes")
			}
			p.Until = t.Unix()
		},
	})
	r.needs(f, "hash", "until")
	return p
}

func (r *reader) iamCallers(f Field) {
	// Identities as the gateway's authorizer names them: an IAM user, or a session of
	// an assumed role. The star must follow a slash, or role "back*" would take in
	// whoever can make a role "backdoor".
	arn := regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[a-z-]+/([A-Za-z0-9+=,.@_/-]*[A-Za-z0-9+=,.@_-]|([A-Za-z0-9+=,.@_-]+/)+\*|\*)$`)
	for _, item := range r.items(f) {
		var c IAMCaller
		known := r.rights(&c.Rights)
		known["arn"] = func(f Field) {
			var ok bool
			if c.ARN, ok = r.text(f); ok && !arn.MatchString(c.ARN) {
				r.fail(f, "must be an ARN such as arn:aws:sts::123456789012:assumed-role/backend/* (all sessions of a role); * stands for the whole last part only")
			}
		}
		got := r.object(item, known)
		r.needs(item, "arn", "allow", "integrations", "owners")
		r.adminOfAll(got, c.Rights)
		same := func(other IAMCaller) bool { return other.ARN == c.ARN }
		if f, ok := got["arn"]; ok && slices.ContainsFunc(r.config.IAMCallers, same) {
			r.fail(f, "is listed already; merge the two")
		}
		r.config.IAMCallers = append(r.config.IAMCallers, c)
	}
}

// rights are the fields that both kinds of caller have.
func (r *reader) rights(rights *Rights) keys {
	return keys{
		"imports_per_minute": func(f Field) { rights.ImportsPerMinute = r.count(f, 1_000_000) },
		"allow": func(f Field) {
			rights.Allow = r.texts(f, func(f Field, _ string) {
				r.oneOf(f, ScopeConnect, ScopeToken, ScopeManage, ScopeAdmin, ScopeMetrics)
			})
			r.notEmpty(f, "connect, token, manage, admin, metrics")
		},
		"integrations": func(f Field) {
			rights.Integrations = r.texts(f, r.integrationName)
			r.notEmpty(f, `names of integrations, or "*" for all`)
		},
		"owners": func(f Field) {
			rights.Owners = r.texts(f, func(f Field, pattern string) {
				prefix := strings.TrimSuffix(pattern, "*")
				if pattern == "" || strings.Contains(prefix, "*") || len(pattern) > 256 {
					r.fail(f, `must be an owner, or a prefix that ends in * ("*" for all), of at most 256 bytes`)
				}
			})
			r.notEmpty(f, `owners, or "*" for all`)
		},
	}
}

// adminOfAll refuses bounds that would not hold: what an operator does, an export among
// it, concerns every connection.
func (r *reader) adminOfAll(got map[string]Field, rights Rights) {
	f, ok := got["allow"]
	if ok && rights.MayScope(ScopeAdmin) && !(slices.Contains(rights.Integrations, "*") && slices.Contains(rights.Owners, "*")) {
		r.fail(f, `has admin, which reaches every connection: it needs integrations: ["*"] and owners: ["*"]`)
	}
}

func (r *reader) notEmpty(f Field, words string) {
	if f.Value.Kind == KindList && len(f.Value.Items) == 0 {
		r.fail(f, "is an empty list, which allows nothing; list %s", words)
	}
}

func (r *reader) integrationName(f Field, name string) {
	var names []string
	for _, i := range r.config.Integrations {
		names = append(names, i.Name)
	}
	if name != "*" && !slices.Contains(names, name) {
		r.fail(f, "names no integration of this file%s", suggestion(name, names))
	}
}
