package threats_test

import (
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/secret"
)

var (
	_ = mutant("T49", "internal/secret/seal.go", `k.deployment, at.Table, at.ID, at.Field}`, `k.deployment, at.Table}`)
	_ = mutant("T49", "internal/secret/keyring.go", `		if prev != 0 {
`, `		if prev < 0 {
`)
	_ = mutant("T49", "internal/secret/seal.go", `return binary.BigEndian.AppendUint64(b, uint64(at.Gen))`, `return b`)
)

// TestThreat_T49_a_record_with_a_moved_value_is_refused_and_left_as_it_is: by the API and by
// the tick, and heals when the value is put back.
func TestThreat_T49_a_record_with_a_moved_value_is_refused_and_left_as_it_is(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		w := brokertest.New(t, brokertest.Options{Profile: "immediate", Store: store})
		one, two := w.Connect("alice"), w.Connect("bob")
		old := w.Item(one)
		w.Must(w.Home.Force(one))
		good, other := w.Item(one), w.Item(two)
		for what, change := range map[string]func(i item.Item){
			"tokens of another connection": func(i item.Item) { i["at"], i["rt"] = other["at"], other["rt"] },
			"tokens that changed places":   func(i item.Item) { i["at"], i["rt"] = good["rt"], good["at"] },
			"tokens of before":             func(i item.Item) { i["at"], i["rt"] = old["at"], old["rt"] },
			"their generation too":         func(i item.Item) { i["at"], i["rt"], i["tok_gen"] = old["at"], old["rt"], old["tok_gen"] },
			"damaged tokens": func(i item.Item) {
				at, rt := []byte(good.Bytes("at")), []byte(good.Bytes("rt"))
				at[len(at)-1] ^= 1
				rt[len(rt)-1] ^= 1
				i["at"], i["rt"] = item.Bytes(at), item.Bytes(rt)
			},
		} {
			bad := maps.Clone(good)
			change(bad)
			w.PutItem(one, bad)
			sent := w.Sent("refresh_token")
			a := w.Call("all", "GET", "/v1/connections/"+one+"/token", "").Want(t, http.StatusInternalServerError, `"internal"`)
			if strings.Contains(a.Body, "access_token") {
				t.Errorf("%s: %s", what, a.Body)
			}
			if err := w.Home.Force(one); err == nil {
				t.Errorf("%s: a refresh works", what)
			}
			w.Must(w.Home.RefreshAll(t.Context(), []string{one}, w.Minute()))
			if n := w.Sent("refresh_token") - sent; n != 0 {
				t.Errorf("%s: %d requests were sent", what, n)
			}
			if now := w.Item(one); !reflect.DeepEqual(now, bad) {
				t.Errorf("%s: the record was overwritten", what)
			}
			w.PutItem(one, good)
			if _, err := w.Home.Read(one, 60); err != nil {
				t.Errorf("%s, put back: %v", what, err)
			}
		}
		w.Must(w.Home.Force(one))
		w.Check(one, two)
	})
}

// TestThreat_T49_another_wrapping_key_opens_nothing_and_overwrites_nothing: whoever starts
// with another one, the right one being lost, makes no data key in the place of those that
// are there, sends nothing and writes nothing.
func TestThreat_T49_another_wrapping_key_opens_nothing_and_overwrites_nothing(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		w := brokertest.New(t, brokertest.Options{Profile: "immediate", Store: store})
		id := w.Connect("alice")
		w.Must(w.Home.Force(id))
		w.Advance(time.Minute)
		before, sent := w.Items(), w.Sent("refresh_token")
		foreign, err := keyfile.FromText(secret.New(strings.Repeat("07", 32)), "evergrant")
		w.Must(err)
		p := w.Start(func(c *broker.Config) { c.Keys = secret.NewKeyring("evergrant", foreign, c.Store) })
		if _, err := p.Read(id, 60); err == nil {
			t.Error("a token was opened")
		}
		if err := p.Force(id); err == nil {
			t.Error("a refresh works")
		}
		if _, err := p.RotateKeys(t.Context()); err == nil {
			t.Error("data keys were made under a key that does not open those that are there")
		}
		w.ToSlot(id)
		p.TickNow()
		w.WantSent(sent)
		after := w.Items()
		for key, was := range before {
			if (strings.HasPrefix(key, "conn_") || strings.HasPrefix(key, "sys#datakey")) && !reflect.DeepEqual(after[key], was) {
				t.Errorf("%s was overwritten", key)
			}
		}
		if _, err := w.Start().Read(id, 60); err != nil {
			t.Errorf("with the right key: %v", err)
		}
		w.Check(id)
	})
}
