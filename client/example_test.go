package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"golang.org/x/oauth2"

	"github.com/evergrant/evergrant/client"
)

// exampleServers are an Evergrant and an API of a provider, as the examples need them. The API
// refuses the first token.
func exampleServers() (evergrant, api *httptest.Server) {
	token := func(n int) string {
		return fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","token_id":"%d","expires_at":null,"use_until":null,"generation":%d,"scope":"","fields":{},"api":null}`, n, n, n)
	}
	answers := map[string]string{
		"GET /v1/connections/conn_1/token":       token(1),
		"POST /v1/connections/conn_1/refresh":    token(2),
		"GET /v1/connections/conn_2":             `{"id":"conn_2","integration":"askfred","owner":"user-42"}`,
		"POST /v1/connect-sessions":              `{"id":"cs_1","authorize_url":"https://auth.example.com/authorize/askfred?session=cs_1"}`,
		"POST /v1/connect-sessions/cs_1/confirm": `{"id":"conn_1","integration":"askfred","owner":"user-42","status":"active"}`,
		"GET /v1/connections?owner=user-42":      `{"items":[{"id":"conn_1","status":"active"},{"id":"conn_2","status":"needs_reauth"}],"next":null}`,
		"DELETE /v1/connections/conn_1":          `{"revoked":"at_provider","proof":"refresh_refused"}`,
	}
	evergrant = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusConflict)
			body = `{"code":"needs_reauth","reason":"revoked","connection_id":"conn_2"}`
		}
		_, _ = io.WriteString(w, body)
	}))
	api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "hello")
	}))
	return evergrant, api
}

// The token goes along with each request. The one that the provider refuses is refreshed, once
// for all who hold it, and the request is sent again.
func ExampleClient_HTTPClient() {
	evergrant, api := exampleServers()
	defer evergrant.Close()
	defer api.Close()

	c, err := client.New(evergrant.URL, "evg_…", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := c.HTTPClient(context.Background(), "conn_1").Get(api.URL + "/me")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 200 hello <nil>
}

// Whatever takes a token source of golang.org/x/oauth2 takes this one.
func ExampleClient_TokenSource() {
	evergrant, api := exampleServers()
	defer evergrant.Close()
	defer api.Close()

	c, err := client.New(evergrant.URL, "evg_…", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	source := c.TokenSource(context.Background(), "conn_1")
	resp, err := oauth2.NewClient(context.Background(), source).Get(api.URL + "/me")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode) // only HTTPClient reports a refused token
	// Output: 401
}

// A user has to consent again: make a link, and send the user there.
func ExampleClient_Reconnect() {
	evergrant, api := exampleServers()
	defer evergrant.Close()
	defer api.Close()

	ctx := context.Background()
	c, err := client.New(evergrant.URL, "evg_…", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Token(ctx, "conn_2", client.TokenOptions{})
	if e, ok := errors.AsType[*client.NeedsReauthError](err); ok {
		session, err := c.Reconnect(ctx, e.ConnectionID, client.SessionRequest{ReturnTo: "https://app.example.com/settings/done"})
		fmt.Println(e.Reason, session.AuthorizeURL, err)
	}
	// Output: revoked https://auth.example.com/authorize/askfred?session=cs_1 <nil>
}

// From a link to a connection.
func ExampleClient_CreateSession() {
	evergrant, api := exampleServers()
	defer evergrant.Close()
	defer api.Close()

	ctx := context.Background()
	c, err := client.New(evergrant.URL, "evg_…", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	session, err := c.CreateSession(ctx, client.SessionRequest{Integration: "askfred", Owner: "user-42"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(session.AuthorizeURL, "https://auth.example.com/authorize/"))
	// The browser comes back with evergrant_session and evergrant_confirm. The owner is who is
	// logged in to the application in that browser.
	conn, err := c.Confirm(ctx, session.ID, client.NewSecret("evergrant_confirm"), "user-42")
	fmt.Println(conn.ID, conn.Status, err)
	// Output:
	// true
	// conn_1 active <nil>
}

// All connections of an owner.
func ExampleClient_Connections() {
	evergrant, api := exampleServers()
	defer evergrant.Close()
	defer api.Close()

	c, err := client.New(evergrant.URL, "evg_…", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for conn, err := range c.Connections(context.Background(), client.Filter{Owner: "user-42"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(conn.ID, conn.Status)
	}
	receipt, err := c.Disconnect(context.Background(), "conn_1")
	fmt.Println(receipt.Revoked, receipt.Proof, err)
	// Output:
	// conn_1 active
	// conn_2 needs_reauth
	// at_provider refresh_refused <nil>
}
