package config

import (
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// onlyList refuses the plain form beside the list.
func (r *reader) onlyList(got map[string]Field) {
	for _, key := range []string{"client_id", "client_secret", "key_id"} {
		if f, ok := got[key]; ok {
			r.fail(f, "stands beside clients; move it into that list")
		}
	}
}

// plainClient completes the client of an integration without a list. Where the
// provider has one client id for all of its public clients, it need not be written.
func (r *reader) plainClient(f Field, c Client, entry provider.Entry) []Client {
	if _, written := child(f, "client_id"); written {
		return []Client{c}
	}
	if c.ClientID = entry.PublicClientID; c.ClientID == "" || !c.Public() {
		r.fail(in(f, "client_id"), "is missing; the provider shows it where the application is registered")
	}
	return []Client{c}
}

// clients reads the list form, and returns the place of each.
func (r *reader) clients(f Field) (clients []Client, places []Field) {
	current := 0
	for _, item := range r.items(f) {
		c := Client{State: ClientCurrent}
		got := r.object(item, keys{
			"name":          func(f Field) { c.Name = r.nameText(f) },
			"client_id":     func(f Field) { c.ClientID = r.clientID(f) },
			"client_secret": func(f Field) { c.Secret = r.secretRef(f) },
			"key_id":        func(f Field) { c.KeyID = r.clientID(f) },
			"state": func(f Field) {
				c.State = ClientState(r.oneOf(f, string(ClientCurrent), string(ClientDraining)))
			},
		})
		if item.Value.Kind != KindObject {
			continue
		}
		r.needs(item, "name", "client_id")
		if c.State == ClientCurrent {
			current++
		}
		r.unlikeOthers(got, c, clients)
		clients, places = append(clients, c), append(places, item)
	}
	if f.Value.Kind == KindList && current != 1 {
		r.fail(f, "must hold exactly one client with state current (the default), and holds %d; the others are draining", current)
	}
	return clients, places
}

// unlikeOthers refuses a name or client id that an earlier client has: connections
// are bound to a client by its id.
func (r *reader) unlikeOthers(got map[string]Field, c Client, others []Client) {
	for _, other := range others {
		if f, ok := got["name"]; ok && other.Name == c.Name {
			r.fail(f, "is the name of another client; connections show it, so make it unique")
		}
		if f, ok := got["client_id"]; ok && other.ClientID == c.ClientID {
			r.fail(f, "is the id of another client, and connections are told apart by it")
		}
	}
}

// clientID reads a client id: visible ASCII and blanks (RFC 6749 appendix A.1).
func (r *reader) clientID(f Field) string {
	s, ok := r.text(f)
	outside := func(c rune) bool { return c < 0x20 || c > 0x7e }
	if ok && (s == "" || s != strings.TrimSpace(s) || strings.ContainsFunc(s, outside)) {
		r.fail(f, "must be the id as the provider shows it: not empty, ASCII, no blanks around it")
	}
	return s
}

func (r *reader) secretRef(f Field) SecretRef {
	if !r.is(f, KindText, "text") {
		return SecretRef{}
	}
	ref, err := parseSecretRef(f.Value.Text)
	if err != nil {
		r.fail(f, "%v", err)
	}
	return ref
}

// suits checks a client against its provider.
func (r *reader) suits(f Field, c *Client, entry provider.Entry) {
	at := in(f, "client_secret")
	if written, ok := child(f, "client_secret"); ok {
		if at.At = written.At; c.Public() {
			return // what stands there could not be read, which has been told
		}
	}
	switch {
	case c.Public() && !acceptsPublic(entry):
		r.fail(at, "is missing: %s authenticates clients by %s; where it also takes public clients, say so by token_endpoint_auth_method: none under provider: {extends: …}",
			entry.ID, entry.TokenEndpointAuthMethod)
		return
	case c.Secret.Kind() == SecretLiteral && !loopbackProvider(entry):
		r.fail(at, "must not stand in the file%s; keep it elsewhere and write ${ssm:…}, ${secretsmanager:…}, ${env:…} or ${file:…}", sentElsewhere(entry))
	}
	for _, err := range split(entry.ValidateClient(c.Public())) {
		r.fail(f, "provider %s: %v", entry.ID, err)
	}
}

// acceptsPublic reports whether some request is made without a secret. A provider
// whose method is unknown has been told of elsewhere.
func acceptsPublic(entry provider.Entry) bool {
	if entry.TokenEndpointAuthMethod == "" || entry.TokenEndpointAuthMethod == "none" {
		return true
	}
	for _, method := range entry.TokenEndpointAuthMethodByGrant {
		if method == "none" {
			return true
		}
	}
	return entry.TokenEndpointAuthMethodByClient["public_pkce"] == "none"
}

// loopbackProvider reports whether every endpoint that is sent the secret is on this
// machine.
func loopbackProvider(entry provider.Entry) bool {
	known := strings.Join(secretEndpoints(entry), "") != ""
	return known && sentElsewhere(entry) == ""
}

// secretEndpoints are those that may be sent the client secret, or lead to one that is.
func secretEndpoints(entry provider.Entry) []string {
	return []string{
		entry.TokenEndpoint, entry.RefreshEndpoint, entry.SecondExchange.Endpoint, entry.RevocationEndpoint, entry.RevocationRequest.URL, entry.DiscoveryURL,
	}
}

// sentElsewhere names the first of these endpoints that is not on this machine, for a
// mistake; "" where there is none.
func sentElsewhere(entry provider.Entry) string {
	for _, u := range secretEndpoints(entry) {
		if u != "" && !loopbackURL(u) {
			return ", since " + u + " is not on this machine"
		}
	}
	return ""
}
