package kmskey_test

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/kmskey"
	"github.com/evergrant/evergrant/internal/secret"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

const key = "arn:aws:kms:eu-central-1:123456789012:key/one"

func client(t *testing.T) (*awssim.Server, *awsjson.Client) {
	t.Helper()
	sim := awssim.New()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return sim, awsjson.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}, awsjson.KMS())
}

var _ = mutant("T54", "internal/kmskey/kmskey.go", `return map[string]string{"deployment": w.deployment, "purpose": string(p)}`, `return map[string]string{"deployment": w.deployment}`)

func TestThreat_T54_a_data_key_opens_in_its_own_context_only(t *testing.T) {
	_, c := client(t)
	w := kmskey.New(c, key, "prod")
	plain := bytes.Repeat([]byte{7}, 32)
	wrapped, err := w.Wrap(t.Context(), secret.PurposeFlow, plain)
	if err != nil || bytes.Contains(wrapped, plain) {
		t.Fatal("wrap:", err)
	}
	if got, err := w.Unwrap(t.Context(), secret.PurposeFlow, wrapped); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unwrap: %x, %v", got, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"another purpose": func() ([]byte, error) { return w.Unwrap(t.Context(), secret.PurposeToken, wrapped) },
		"another deployment": func() ([]byte, error) {
			return kmskey.New(c, key, "stage").Unwrap(t.Context(), secret.PurposeFlow, wrapped)
		},
		"another KMS key": func() ([]byte, error) {
			return kmskey.New(c, "two", "prod").Unwrap(t.Context(), secret.PurposeFlow, wrapped)
		},
		"damaged": func() ([]byte, error) { return w.Unwrap(t.Context(), secret.PurposeFlow, wrapped[1:]) },
	} {
		if got, err := open(); err == nil || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestRefusalNamesKeyAndPurpose(t *testing.T) {
	sim, c := client(t)
	sim.Refuse("TrentService.Encrypt", "AccessDeniedException")
	_, err := kmskey.New(c, key, "prod").Wrap(t.Context(), secret.PurposeToken, []byte("CANARY-key"))
	if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "token") || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	if err != nil && strings.Contains(err.Error(), "CANARY") {
		t.Error("the error holds the key")
	}
}

// A disabled KMS key opens nothing while it is disabled; what it wrapped is not touched.
func TestADisabledKeyOpensNothingUntilItIsEnabled(t *testing.T) {
	sim, c := client(t)
	store, w := keyStore{}, kmskey.New(c, key, "prod")
	at := secret.Place{Table: "t", ID: "x", Field: "f"}
	warm := secret.NewKeyring("prod", w, store)
	if err := warm.Load(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	sealed, err := warm.Seal(secret.PurposeToken, at, secret.New("s"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := bytes.Clone(store[secret.PurposeToken])
	sim.Refuse("TrentService.Decrypt", "DisabledException")
	sim.Refuse("TrentService.Encrypt", "DisabledException")
	cold := secret.NewKeyring("prod", w, store)
	for what, try := range map[string]func() error{
		"load":   func() error { return cold.Load(t.Context(), secret.PurposeToken) },
		"open":   func() error { _, err := cold.Open(t.Context(), secret.PurposeToken, at, sealed); return err },
		"rotate": func() error { _, err := cold.Rotate(t.Context(), secret.PurposeToken); return err },
	} {
		err := try()
		if !errors.Is(err, secret.ErrKeyUnavailable) || !strings.Contains(err.Error(), "DisabledException") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !bytes.Equal(store[secret.PurposeToken], wrapped) {
		t.Error("the wrapped key was overwritten")
	}
	if got, err := warm.Open(t.Context(), secret.PurposeToken, at, sealed); err != nil || got.Reveal() != "s" {
		t.Errorf("a warm process: %v", err)
	}
	sim.Refuse("TrentService.Decrypt", "") // enabled again
	if got, err := cold.Open(t.Context(), secret.PurposeToken, at, sealed); err != nil || got.Reveal() != "s" {
		t.Errorf("enabled again: %v", err)
	}
}

// keyStore holds one wrapped key of each purpose.
type keyStore map[secret.Purpose][]byte

func (s keyStore) PrimaryKey(_ context.Context, p secret.Purpose) (int64, []byte, error) {
	if s[p] == nil {
		return 0, nil, nil
	}
	return 1, s[p], nil
}

func (s keyStore) DataKey(_ context.Context, p secret.Purpose, _ int64) ([]byte, error) {
	return s[p], nil
}

func (s keyStore) AddPrimaryKey(_ context.Context, p secret.Purpose, _, _ int64, wrapped []byte) (bool, error) {
	s[p] = wrapped
	return true, nil
}

// TestColdStartIsOneCall: each later use of the key costs none.
func TestColdStartIsOneCall(t *testing.T) {
	sim, c := client(t)
	store, w := keyStore{}, kmskey.New(c, key, "prod")
	if err := secret.NewKeyring("prod", w, store).Load(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	first := len(sim.Calls())
	ring, at := secret.NewKeyring("prod", w, store), secret.Place{Table: "t", ID: "x", Field: "f"}
	for range 3 {
		if err := ring.Load(t.Context(), secret.PurposeToken); err != nil {
			t.Fatal(err)
		}
		sealed, err := ring.Seal(secret.PurposeToken, at, secret.New("s"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Open(t.Context(), secret.PurposeToken, at, sealed); err != nil {
			t.Fatal(err)
		}
	}
	if got := sim.Calls()[first:]; !slices.Equal(got, []string{"TrentService.Decrypt"}) {
		t.Errorf("calls of a cold start: %v", got)
	}
}
