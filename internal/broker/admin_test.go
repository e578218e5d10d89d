package broker_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// After a rotation everything opens; after a reseal nothing stands under the old key.
func TestRotateAndReseal(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 5)
	b := w.start()
	w.Must(b.Keys.Load(t.Context(), secret.PurposeToken))
	hidden, err := b.Keys.Seal(secret.PurposeToken, refresh.FieldsPlace(ids[0]), secret.New(`{"instance":"https://x.example"}`))
	w.Must(err)
	with := w.Item(ids[0])
	with["secret_fields"] = item.Bytes(hidden)
	w.PutItem(ids[0], with)
	keys, err := b.RotateKeys(t.Context())
	if err != nil || keys.Token != 2 {
		t.Fatalf("%+v, %v", keys, err)
	}
	first, err := b.Reseal(t.Context(), "")
	if err != nil || first.Resealed != 5 || first.Current+first.Busy+first.Failed != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := b.Reseal(t.Context(), "")
	if err != nil || again.Resealed != 0 || again.Current != 5 {
		t.Fatalf("%+v, %v", again, err)
	}
	for _, id := range ids {
		rec := w.Record(id)
		if _, n, err := b.Keys.KeyOf([]byte(rec.Refresh)); err != nil || n != b.Keys.Primary(secret.PurposeToken) {
			t.Errorf("%s is sealed under key %d, %v", id, n, err)
		}
		if _, err := b.Token(t.Context(), caller(), id, 60, nil); err != nil {
			t.Errorf("%s does not open: %v", id, err)
		}
	}
	fields := []byte(w.Record(ids[0]).SecretFields)
	if _, n, err := b.Keys.KeyOf(fields); err != nil || n != b.Keys.Primary(secret.PurposeToken) {
		t.Errorf("the secret fields are sealed under key %d, %v", n, err)
	}
	if text, err := b.Keys.Open(t.Context(), secret.PurposeToken, refresh.FieldsPlace(ids[0]), fields); err != nil || text.Reveal() != `{"instance":"https://x.example"}` {
		t.Errorf("the secret fields: %v", err)
	}
}

// A reseal that has no more time goes on where it stopped, each connection once.
func TestResealGoesOn(t *testing.T) {
	w := newWorld(t, "")
	w.connect("one", 230)
	b := w.start(func(c *broker.Config) {
		c.Now = func() time.Time { // each look at the clock finds the time over
			w.Advance(13 * time.Second)
			return w.Clock.Now()
		}
	})
	if _, err := b.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	sum, calls := 0, 0
	for cursor := ""; ; calls++ {
		rep, err := b.Reseal(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		sum += rep.Resealed
		if cursor = rep.Next; cursor == "" {
			break
		}
	}
	if sum != 230 || calls < 2 {
		t.Errorf("%d resealed by %d calls", sum, calls+1)
	}
	if _, err := b.Reseal(t.Context(), "forged"); err == nil {
		t.Error("a cursor that nobody gave is taken")
	}
}

// An export holds each connection and the wrapped keys, and no token.
func TestExportStaysSealed(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 3)
	b := w.start()
	token, err := b.Token(t.Context(), caller(), ids[0], 60, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(ids, "sys#datakey#token#1") {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in the export", want)
		}
	}
	if strings.Contains(string(text), token.AccessToken.Reveal()) {
		t.Error("an access token stands in the export")
	}
}
