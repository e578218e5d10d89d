package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/outbox"
)

// webhooks reads the list of endpoints that are told of events.
func (r *reader) webhooks(f Field) {
	for _, item := range r.items(f) {
		var w Webhook
		got := r.object(item, keys{
			"url":             func(f Field) { w.URL = r.webhookURL(f) },
			"secret":          func(f Field) { w.Secret = r.webhookSecret(f) },
			"previous_secret": func(f Field) { w.PreviousSecret = r.webhookSecret(f) },
			"events":          func(f Field) { w.Events = r.texts(f, r.eventType) },
			"allow_private": func(f Field) {
				w.AllowPrivate = r.is(f, KindBool, "true or false") && strings.EqualFold(f.Value.Text, "true")
			},
		})
		r.needs(item, "url", "secret")
		if u, ok := got["url"]; ok && w.URL != "" && slices.ContainsFunc(r.config.Webhooks, func(o Webhook) bool { return o.URL == w.URL }) {
			r.fail(u, "is the URL of another webhook; give that one all its events")
		}
		if e, ok := got["events"]; ok && e.Value.Kind == KindList && len(e.Value.Items) == 0 {
			r.fail(e, "is empty; leave the key out for all events")
		}
		for _, key := range []string{"secret", "previous_secret"} {
			secret := map[string]SecretRef{"secret": w.Secret, "previous_secret": w.PreviousSecret}[key]
			if f, ok := got[key]; ok && secret.Kind() == SecretLiteral && !loopbackURL(w.URL) {
				r.fail(f, "must not stand in the file; keep it elsewhere and write ${env:…} or ${file:…}")
			}
		}
		r.config.Webhooks = append(r.config.Webhooks, w)
	}
}

// webhookURL reads where events are posted to. It is not quoted in mistakes: its path or
// query may be what admits a request.
func (r *reader) webhookURL(f Field) string {
	s, ok := r.text(f)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		r.fail(f, "must be a URL, such as https://app.example.com/evergrant")
	case u.User != nil || u.Fragment != "":
		r.fail(f, "must have neither a user nor a fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopbackURL(s)):
		r.fail(f, "must be https, since it is not on loopback")
	}
	return s
}

// webhookSecret reads where a signing secret is kept. It is read by serve, which knows no
// other places.
func (r *reader) webhookSecret(f Field) SecretRef {
	if !r.is(f, KindText, "text") {
		return SecretRef{}
	}
	ref, err := parseSecretRef(f.Value.Text)
	switch {
	case err != nil:
		r.fail(f, "must be one whole reference, such as ${env:WEBHOOK_SECRET} or ${file:/run/secrets/webhook}")
	case ref.Kind() == SecretSSM || ref.Kind() == SecretSecretsManager:
		r.fail(f, "is read by evergrant serve, from ${env:…} or ${file:…}; on AWS events go onto the bus")
	}
	return ref
}

func (r *reader) eventType(f Field, s string) {
	types := []string{}
	for _, t := range outbox.Types() {
		types = append(types, string(t))
	}
	if !slices.Contains(types, s) {
		r.fail(f, "is not an event%s", suggestion(s, types))
	}
}
