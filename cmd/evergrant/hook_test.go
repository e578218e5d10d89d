package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// TestServeTellsAnApplication takes a server, as a process of its own, from the link to
// messages that an application receives and verifies by the library of Standard Webhooks:
// the connect, and after a restart the disconnect.
func TestServeTellsAnApplication(t *testing.T) {
	t.Parallel()
	key := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	hook, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan wire.Event, 10)
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var message wire.Webhook
		switch {
		case hook.Verify(body, r.Header) != nil:
			t.Errorf("a message that cannot be verified: %s", body)
		case hook.Verify(append(body, ' '), r.Header) == nil:
			t.Error("the signature holds for another body, too")
		case json.Unmarshal(body, &message) != nil || message.Type != message.Data.Type:
			t.Errorf("a message that is none: %s", body)
		default:
			told <- message.Data
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(application.Close)

	var sims http.Handler
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sims.ServeHTTP(w, r) }))
	t.Cleanup(provider.Close)
	simulators := simprovider.New(simprovider.Config{BaseURL: provider.URL, TokenTTL: time.Hour})
	sims = simulators
	d := newDeployment(t, simulators)
	d.env = []string{"HOOK=" + key}
	d.tells(application.URL)
	d.start()
	t.Cleanup(func() { d.kill() })
	who, err := newPerson("alice")
	if err != nil {
		t.Fatal(err)
	}
	c := d.connect(who, "tenant-7")
	d.hears(told, c.ID, "connection.created")
	d.measured("delivered")
	d.kill()
	d.start()
	if err := d.call(http.MethodDelete, "/v1/connections/"+c.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	d.hears(told, c.ID, "connection.disconnected")
}

// tells adds a webhook to the configuration, and lets the key read the metrics.
func (d *deployment) tells(address string) {
	d.t.Helper()
	name := filepath.Join(d.folder, "evergrant.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		d.t.Fatal(err)
	}
	var settings map[string]any
	if err := json.Unmarshal(b, &settings); err != nil {
		d.t.Fatal(err)
	}
	settings["webhooks"] = []map[string]any{{"url": address, "secret": "${env:HOOK}"}}
	admitted := settings["api_keys"].([]any)[0].(map[string]any)
	admitted["allow"] = append(admitted["allow"].([]any), "metrics")
	if b, err = json.Marshal(settings); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// hears waits for the next event, which must be that of the connection. One that the server
// could not mark as delivered before it was killed may come again.
func (d *deployment) hears(told <-chan wire.Event, connection, typ string) {
	d.t.Helper()
	for end := time.After(time.Minute); ; {
		select {
		case e := <-told:
			if e.ConnectionID != connection || e.Owner != "tenant-7" {
				d.t.Fatalf("told of %+v", e)
			}
			if e.Type == typ {
				return
			}
		case <-end:
			d.t.Fatalf("not told of %s within a minute", typ)
		}
	}
}

// measured waits until the server's metrics count a webhook with that outcome.
func (d *deployment) measured(outcome string) {
	d.t.Helper()
	d.await(func() error {
		r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "http://"+d.address+"/metrics", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+d.api.key.Reveal())
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if want := `evergrant_webhooks_total{integration="askfred",outcome="` + outcome + `"} 1`; err == nil && !strings.Contains(string(text), want) {
			err = errors.New("the metrics have no " + want)
		}
		return err
	})
}
