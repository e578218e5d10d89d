package secret_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/secret"
)

// What is sealed for a transfer opens with the private half, at its place, whole.
func TestTransfer(t *testing.T) {
	private, public, err := secret.NewTransferKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := secret.NewTransferKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := secret.SealTransfer(public, "conn_1", secret.New("CANARY"))
	if err != nil || strings.Contains(string(sealed), "CANARY") {
		t.Fatalf("%q, %v", sealed, err)
	}
	if text, err := secret.OpenTransfer(private, "conn_1", sealed); err != nil || text.Reveal() != "CANARY" {
		t.Errorf("%v", err)
	}
	changed := append([]byte{}, sealed...)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() (secret.Text, error){
		"another key":   func() (secret.Text, error) { return secret.OpenTransfer(other, "conn_1", sealed) },
		"another place": func() (secret.Text, error) { return secret.OpenTransfer(private, "conn_2", sealed) },
		"changed":       func() (secret.Text, error) { return secret.OpenTransfer(private, "conn_1", changed) },
		"short":         func() (secret.Text, error) { return secret.OpenTransfer(private, "conn_1", sealed[:8]) },
	} {
		if _, err := open(); !errors.Is(err, secret.ErrTransfer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := secret.TransferPublic(private); err != nil || p != public {
		t.Errorf("%s, %v", p, err)
	}
	for _, bad := range []string{"", "evgmovepub_", "evgmovepub_x", public[:20], private.Reveal()} {
		if _, err := secret.SealTransfer(bad, "x", secret.New("y")); !errors.Is(err, secret.ErrTransferKey) {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
	if _, err := secret.OpenTransfer(secret.New(public), "conn_1", sealed); !errors.Is(err, secret.ErrTransferKey) {
		t.Error("the public half opens")
	}
}
