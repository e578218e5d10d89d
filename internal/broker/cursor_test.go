package broker_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
)

// A cursor opens for the list and the caller that it was given for, and for nothing else,
// whatever is done to it.
func TestCursorsAreBoundToTheirList(t *testing.T) {
	w := newWorld(t, "")
	w.connect("one", 3)
	b := w.start()
	all := caller()
	page, err := b.List(t.Context(), all, broker.ListRequest{Integration: "one", Limit: 1})
	w.Must(err)
	if page.Next == "" {
		t.Fatal("there is no next page")
	}
	again := func(c broker.Caller, r broker.ListRequest) error {
		r.Cursor, r.Limit = page.Next, 1
		_, err := b.List(t.Context(), c, r)
		return err
	}
	w.Must(again(all, broker.ListRequest{Integration: "one"}))
	other := all
	other.Name = "another"
	narrow := broker.Caller{Name: all.Name, Rights: config.Rights{Allow: all.Allow, Integrations: []string{"two"}, Owners: []string{"*"}}}
	for name, err := range map[string]error{
		"another key": again(other, broker.ListRequest{Integration: "one"}), "another integration": again(all, broker.ListRequest{Integration: "two"}),
		"another index": again(all, broker.ListRequest{Owner: "tenant"}), "a key that lost its right": again(narrow, broker.ListRequest{Integration: "one"}),
	} {
		if err == nil {
			t.Errorf("it was carried to %s", name)
		}
	}
}
