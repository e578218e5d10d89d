package config

import (
	"encoding/json"
	"errors"
	"fmt"
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
// literal client_secret is an error.
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
			Provider: i.Entry, Clients: clients, Scopes: i.Scopes, ReturnTo: i.ReturnTo,
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
	return json.Marshal(out)
}
