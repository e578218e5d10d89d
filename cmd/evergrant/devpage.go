package main

import (
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/console"
	"github.com/evergrant/evergrant/internal/devpage"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// devHandler is the broker with the page of dev at / and under /app/. The page
// speaks to the broker as an application does: by its API, with a key.
func devHandler(n *node, sims *simprovider.Server, all []simulated, origin string, key secret.Text) http.Handler {
	quiet := n.face // an open page polls each second: its requests are no news
	quiet.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	page := devpage.New(devpage.Config{
		API: httpapi.New(quiet), Key: key, Origin: origin, Integrations: cards(sims, all), Now: time.Now,
		Faults: func(provider string, kind devpage.Fault) error { return misbehave(sims, provider, kind) },
	})
	operated := console.Before(n.handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/app/") {
			page.ServeHTTP(w, r)
			return
		}
		operated.ServeHTTP(w, r)
	})
}

// cards are the page's integrations.
func cards(sims *simprovider.Server, all []simulated) []devpage.Integration {
	var list []devpage.Integration
	for _, s := range all {
		card := devpage.Integration{
			Name: s.name, Provider: s.provider, Title: s.title, About: s.about, Grant: string(s.grant), Headers: s.headers,
			Call: func() (method, url, body string) {
				example, err := sims.Example(s.provider, string(s.grant))
				if err != nil {
					panic(err) // it is simulated: simulatedIntegrations is wrong
				}
				return example.Method, example.URL, example.Body
			},
		}
		if s.grant == provider.GrantRefreshToken {
			card.AccountURL = sims.Endpoints(s.provider)["account_url"]
			card.Paste = func(account string) secret.Text { return secret.New(sims.IssueRefreshToken(s.provider, account)) }
		}
		list = append(list, card)
	}
	return list
}

// misbehave has a simulator do what the page's buttons offer.
func misbehave(sims *simprovider.Server, provider string, kind devpage.Fault) error {
	switch kind {
	case devpage.LoseAnswer:
		return sims.AddFault(provider, simprovider.Fault{On: "token", Kind: "lost_answer"})
	case devpage.RevokeAccess:
		for _, u := range simprovider.Users() {
			sims.RevokeUser(provider, u.Login)
		}
	}
	return nil
}
