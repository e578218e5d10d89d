package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/wording"
)

// Warnings are the choices in c that are allowed and weaker than they might seem, or
// that will not do what they promise: one sentence or two each, in the order of the
// integrations.
func (c *Config) Warnings() []string {
	var w []string
	if strings.HasPrefix(c.PublicURL, "http://") {
		w = append(w, fmt.Sprintf("public_url %s is on loopback: only browsers on this machine reach it.", c.PublicURL))
	}
	for n := range c.Integrations {
		for _, text := range c.Integrations[n].warnings(c.PublicURL) {
			w = append(w, fmt.Sprintf("integration %s: %s", c.Integrations[n].Name, text))
		}
	}
	if missing := wording.Missing(c.Pages.Messages); len(missing) > 0 {
		w = append(w, fmt.Sprintf("pages: %d messages are in English still, such as %s.", len(missing), strings.Join(missing[:min(3, len(missing))], ", ")))
	}
	for _, hook := range c.Webhooks {
		if !hook.PreviousSecret.IsZero() {
			w = append(w, fmt.Sprintf("webhooks: %s still signs too: remove it once every receiver knows the new secret.", hook.PreviousSecret))
		}
	}
	return w
}

func (i *Integration) warnings(publicURL string) []string {
	var w []string
	if i.Binding == BindingCookie {
		w = append(w, "binding: cookie does not stop a forwarded link. "+
			"Somebody who is sent a connect link and consents connects their own account to the owner for whom the link was made, "+
			"and that owner's application can then use it. Use binding: confirm unless every link is opened right where it was made.")
	}
	if i.AllowPrivate {
		w = append(w, "allow_private lets requests with the client secret go to private networks. "+
			"Keep it to providers that run there, and give no variable that a user may choose.")
	}
	for _, client := range i.Clients {
		if client.State == ClientDraining {
			w = append(w, fmt.Sprintf("client %s is draining: its secret stays valid as long as it stands here. "+
				"Remove it, and revoke its secret at the provider, once no connection uses it.", client.Name))
		}
	}
	if i.Entry.Refresh.Supported == provider.No && i.Refresh != RefreshOnDemand {
		w = append(w, fmt.Sprintf("refresh: %s does nothing: %s gives no refresh tokens, so a connection ends with its access token.", i.Refresh, i.Entry.ID))
	}
	if i.Refresh == RefreshKeepalive && i.Entry.Refresh.Supported != provider.No && i.Entry.Refresh.IdleLifetimeS == 0 {
		w = append(w, fmt.Sprintf("refresh: keepalive has nothing to go by: it is not known after how long %s drops an idle refresh token. "+
			"Set refresh.idle_lifetime_s in an inline provider, or use ahead.", i.Entry.ID))
	}
	if id := i.Entry.Identity; id.Endpoint != "" && id.IDField == "" {
		w = append(w, "identity.id_field is not known, so nobody reads whose account a connection leads to, and a reconnect is not held to it. "+
			"Where you know the field of the answer at "+id.Endpoint+", name it under provider: {extends: …, identity: {id_field: …}}.")
	}
	for _, name := range i.openVariables() {
		w = append(w, fmt.Sprintf("variable %s has no value: set it under variables, else no user can be sent to %s.", name, i.Entry.ID))
	}
	if n := i.Entry.Refresh.ConcurrentLimit; n > 0 {
		w = append(w, fmt.Sprintf("%s keeps %d live refresh tokens of a user for this client, and one more consent ends the oldest in silence. "+
			"Reconnect an owner with connection_id rather than connecting anew.", i.Entry.ID, n))
	}
	if date := i.Entry.Sunset.Date; date != "" {
		w = append(w, fmt.Sprintf("%s: %s ends in %s%s.", i.Entry.ID, i.Entry.Sunset.What, date, successor(i.Entry.Sunset)))
	}
	if strings.HasPrefix(publicURL, "http://") && !loopbackProvider(i.Entry) && slices.Contains(i.Entry.RedirectURIRules, "https_only") {
		w = append(w, fmt.Sprintf("%s accepts https redirect URIs only, and public_url is http.", i.Entry.ID))
	}
	return w
}

func successor(s provider.Sunset) string {
	if s.Successor == "" {
		return ""
	}
	return "; its successor is " + s.Successor
}

// openVariables are those that neither the configuration nor the entry gives a value,
// and no connection can.
func (i *Integration) openVariables() []string {
	var open []string
	for name := range i.Entry.Variables {
		_, given := i.Variables[name]
		_, byDefault := i.Entry.DefaultVariables[name]
		if !given && !byDefault && !slices.Contains(i.Entry.ConnectionVariables, name) && !i.Entry.Keeps(name) {
			open = append(open, name)
		}
	}
	slices.Sort(open)
	return open
}

// BuildWarnings are the references of c that a function on AWS will not be able to
// read, since neither its environment nor its package holds a secret.
func (c *Config) BuildWarnings() []string {
	var w []string
	for _, i := range c.Integrations {
		for _, client := range i.Clients {
			if kind := client.Secret.Kind(); kind == SecretEnv || kind == SecretFile {
				w = append(w, fmt.Sprintf("integration %s: client %s reads its secret from %s, which functions on AWS do not have. Use ${ssm:…} or ${secretsmanager:…}.",
					i.Name, client.Name, client.Secret))
			}
		}
	}
	if len(c.Webhooks) > 0 {
		w = append(w, "webhooks are sent by evergrant serve. Functions on AWS put events onto the stack's event bus instead.")
	}
	return w
}
