package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
)

// The compiled form has the shape of the file, with everything written out.
type compiled struct {
	PublicURL    string                         `json:"public_url,omitempty"`
	Deployment   string                         `json:"deployment"`
	Integrations map[string]compiledIntegration `json:"integrations"`
	APIKeys      []compiledKey                  `json:"api_keys,omitempty"`
	IAMCallers   []compiledCaller               `json:"iam_callers,omitempty"`
	Webhooks     []compiledWebhook              `json:"webhooks,omitempty"`
	Pages        *compiledPages                 `json:"pages,omitempty"`
}

type compiledPages struct {
	Name     string            `json:"name,omitempty"`
	Logo     string            `json:"logo,omitempty"` // the image itself
	Color    string            `json:"color,omitempty"`
	Home     string            `json:"home,omitempty"`
	Messages map[string]string `json:"messages,omitempty"`
}

type compiledIntegration struct {
	Provider     provider.Entry    `json:"provider"`
	Clients      []compiledClient  `json:"clients"`
	Scopes       []string          `json:"scopes,omitempty"`
	ReturnTo     []string          `json:"return_to,omitempty"`
	Refresh      RefreshMode       `json:"refresh"`
	Binding      Binding           `json:"binding"`
	Connect      Connect           `json:"connect"`
	Concurrent   int               `json:"max_concurrent,omitempty"`
	PerMinute    int               `json:"max_per_minute,omitempty"`
	MinInterval  int               `json:"min_interval_s"`
	Variables    map[string]string `json:"variables,omitempty"`
	AllowPrivate bool              `json:"allow_private,omitempty"`
}

type compiledClient struct {
	Name     string      `json:"name"`
	ClientID string      `json:"client_id"`
	Secret   string      `json:"client_secret,omitempty"` // the reference
	KeyID    string      `json:"key_id,omitempty"`
	State    ClientState `json:"state"`
}

type compiledRights struct {
	Allow            []string `json:"allow"`
	Integrations     []string `json:"integrations"`
	Owners           []string `json:"owners"`
	ImportsPerMinute int      `json:"imports_per_minute,omitempty"`
}

type compiledKey struct {
	Name     string            `json:"name"`
	Hash     string            `json:"hash"`
	Previous *compiledPrevious `json:"previous,omitempty"`
	compiledRights
}

type compiledPrevious struct {
	Hash  string `json:"hash"`
	Until string `json:"until"` // RFC 3339
}

type compiledCaller struct {
	ARN string `json:"arn"`
	compiledRights
}

type compiledWebhook struct {
	URL            string   `json:"url"`
	Secret         string   `json:"secret"`                    // the reference
	PreviousSecret string   `json:"previous_secret,omitempty"` // likewise
	Events         []string `json:"events,omitempty"`
	AllowPrivate   bool     `json:"allow_private,omitempty"`
}

// Compile returns the JSON that Parse reads, with the provider entries in use. Equal
// configurations give equal bytes. It holds references to secrets and no secret: a
// literal client_secret is an error. Of the entries' evidence only what is decided by goes
// along: a function reads all of this at each cold start. It begins with a hash of all that follows, by which
// Parse knows that nobody has changed what was checked here.
func (c *Config) Compile() ([]byte, error) {
	out := compiled{PublicURL: c.PublicURL, Deployment: c.Deployment, Integrations: map[string]compiledIntegration{}}
	for _, i := range c.Integrations {
		clients := make([]compiledClient, len(i.Clients))
		for n, client := range i.Clients {
			if client.Secret.Kind() == SecretLiteral {
				return nil, fmt.Errorf("compile integration %s: a literal client_secret cannot be packaged; write a reference such as ${ssm:…}", i.Name)
			}
			clients[n] = compiledClient{client.Name, client.ClientID, client.Secret.String(), client.KeyID, client.State}
		}
		out.Integrations[i.Name] = compiledIntegration{
			Provider: i.Entry.WithoutSources(), Clients: clients, Scopes: i.Scopes, ReturnTo: i.ReturnTo,
			Refresh: i.Refresh, Binding: i.Binding, Connect: i.Connect,
			Concurrent: i.MaxConcurrent, PerMinute: i.MaxPerMinute, MinInterval: i.MinInterval,
			Variables: i.Variables, AllowPrivate: i.AllowPrivate,
		}
	}
	for _, k := range c.APIKeys {
		key := compiledKey{Name: k.Name, Hash: k.Hash, compiledRights: compiledRights(k.Rights)}
		if k.Previous.Hash != "" {
			key.Previous = &compiledPrevious{k.Previous.Hash, time.Unix(k.Previous.Until, 0).UTC().Format(time.RFC3339)}
		}
		out.APIKeys = append(out.APIKeys, key)
	}
	for _, caller := range c.IAMCallers {
		out.IAMCallers = append(out.IAMCallers, compiledCaller{caller.ARN, compiledRights(caller.Rights)})
	}
	for _, w := range c.Webhooks {
		if w.Secret.Kind() == SecretLiteral || w.PreviousSecret.Kind() == SecretLiteral {
			return nil, errors.New("compile webhooks: a literal secret cannot be packaged; write a reference such as ${file:…}")
		}
		out.Webhooks = append(out.Webhooks, compiledWebhook{w.URL, w.Secret.String(), w.PreviousSecret.String(), w.Events, w.AllowPrivate})
	}
	if p := compiledPages(c.Pages); !reflect.DeepEqual(p, compiledPages{}) {
		out.Pages = &p
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return append([]byte(checkedKey+digest(b[1:])+`",`), b[1:]...), nil
}

// checkedKey begins the compiled form, up to the hash.
const checkedKey = `{"checked":"sha256:`

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// unseal takes the hash off the compiled form. intact: what is left is what Compile wrote.
func unseal(data []byte) (body []byte, intact bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSuffix(data, []byte("\n")), []byte(checkedKey))
	const sum = 2 * sha256.Size
	if !ok || len(rest) < sum+2 || string(rest[sum:sum+2]) != `",` {
		return nil, false
	}
	intact = digest(rest[sum+2:]) == string(rest[:sum])
	return append([]byte("{"), rest[sum+2:]...), intact
}

// unpack reads what Compile wrote, without checking again what was checked before it was
// compiled: a function does this at each cold start, and the checks would be most of its
// time.
func unpack(data []byte) (*Config, error) {
	var in compiled
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	c := &Config{PublicURL: in.PublicURL, Deployment: in.Deployment}
	if in.Pages != nil {
		c.Pages = Pages(*in.Pages)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Integrations)) {
		c.Integrations = append(c.Integrations, in.Integrations[name].integration(name))
	}
	for _, k := range in.APIKeys {
		key := APIKey{Name: k.Name, Hash: k.Hash, Rights: Rights(k.compiledRights)}
		if k.Previous != nil {
			until, err := time.Parse(time.RFC3339, k.Previous.Until)
			if err != nil {
				return nil, err
			}
			key.Previous = PreviousKey{Hash: k.Previous.Hash, Until: until.Unix()}
		}
		c.APIKeys = append(c.APIKeys, key)
	}
	for _, caller := range in.IAMCallers {
		c.IAMCallers = append(c.IAMCallers, IAMCaller{caller.ARN, Rights(caller.compiledRights)})
	}
	for _, w := range in.Webhooks {
		c.Webhooks = append(c.Webhooks, Webhook{
			URL: w.URL, Secret: checkedRef(w.Secret), PreviousSecret: checkedRef(w.PreviousSecret), Events: w.Events, AllowPrivate: w.AllowPrivate,
		})
	}
	return c, nil
}

func (v compiledIntegration) integration(name string) Integration {
	i := Integration{
		Name: name, Provider: v.Provider.ID, Entry: v.Provider, Scopes: v.Scopes, ReturnTo: v.ReturnTo,
		Refresh: v.Refresh, Binding: v.Binding, Connect: v.Connect,
		MaxConcurrent: v.Concurrent, MaxPerMinute: v.PerMinute, MinInterval: v.MinInterval,
		Variables: v.Variables, AllowPrivate: v.AllowPrivate,
	}
	for _, client := range v.Clients {
		ref := checkedRef(client.Secret)
		i.Clients = append(i.Clients, Client{Name: client.Name, ClientID: client.ClientID, Secret: ref, KeyID: client.KeyID, State: client.State})
	}
	return i
}

// checkedRef reads a reference that was checked before it was compiled.
func checkedRef(s string) SecretRef {
	kind, name, ok := splitSecretRef(s)
	if !ok {
		return SecretRef{}
	}
	return SecretRef{kind: SecretKind(kind), name: name}
}
