package broker

import (
	"context"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/config"
)

// Integrations shows what is configured and how its clients stand.
func (b *Broker) Integrations(ctx context.Context, c Caller, origin string) ([]IntegrationView, error) {
	out := []IntegrationView{}
	for n := range b.Settings.Integrations {
		i := &b.Settings.Integrations[n]
		if !c.MayIntegration(i.Name) {
			continue
		}
		v := IntegrationView{
			Name: i.Name, Provider: i.Provider, DisplayName: displayName(i), Grants: i.Entry.GrantTypesSupported, Scopes: i.Scopes,
			Binding: string(i.Binding), Connect: string(i.Connect), Refresh: string(i.Refresh), RedirectURI: i.RegisteredURI(origin), Status: "ok",
		}
		for k := range i.Clients {
			cv := b.clientView(ctx, i, &i.Clients[k])
			if cv.Circuit == "open" && i.Clients[k].State == config.ClientCurrent {
				v.Status = "suspended"
			}
			v.Clients = append(v.Clients, cv)
		}
		out = append(out, v)
	}
	return out, nil
}

func (b *Broker) clientView(ctx context.Context, i *config.Integration, c *config.Client) ClientView {
	v := ClientView{Name: c.Name, State: string(c.State), Circuit: "closed"}
	gen, err := b.Secrets.Generation(ctx, c)
	if err != nil {
		v.Circuit, v.Reason = "open", "secret_unreadable"
		return v
	}
	s, err := b.circuits.Status(ctx, circuit.Client{Integration: i.Name, Name: c.Name, Generation: gen})
	v.SecretSince = s.FirstSeen
	if err == nil && s.Open {
		v.Circuit, v.Since, v.Reason, v.NextProbe = "open", s.Since, s.Reason, s.NextProbe
	}
	return v
}
