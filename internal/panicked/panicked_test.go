package panicked_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/panicked"
)

func TestSaysWhereAndWhatKindAndNoText(t *testing.T) {
	of := func(fail func()) (kind, place string) {
		defer func() { kind, place = panicked.Kind(recover()), panicked.Place() }()
		fail()
		return
	}
	kind, place := of(fails)
	if kind != "string" || !strings.HasPrefix(place, "github.com/evergrant/evergrant/internal/panicked_test.fails:") {
		t.Errorf("%q at %q", kind, place)
	}
	var none []int
	if kind, _ := of(func() { _ = none[len(place)] }); !strings.Contains(kind, "index out of range") {
		t.Errorf("the runtime's own error is %q", kind)
	}
	if _, place := of(func() {}); place != "unknown" {
		t.Errorf("no panic is at %q", place)
	}
}

func fails() { panic("secret-in-a-text") }
