package config_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// client returns a client of a loopback provider with that client_secret.
func client(t *testing.T, clientSecret string) *config.Client {
	t.Helper()
	c, err := yamlfile.Parse([]byte(`
integrations:
  sim:
    client_id: sim-client
    client_secret: "` + clientSecret + `"
    provider:
      authorization_endpoint: http://127.0.0.1:9000/authorize
      token_endpoint: http://127.0.0.1:9000/token
      token_endpoint_auth_method: client_secret_post
`))
	if err != nil {
		t.Fatal(err)
	}
	return c.Integrations[0].Current()
}

func TestFileResolverReadsEnvironmentAndFiles(t *testing.T) {
	resolve := config.FileResolver(
		func(name string) string { return map[string]string{"A": "from env", "REF": "${file:/f}"}[name] },
		func(path string) ([]byte, error) {
			if text, ok := map[string]string{"/f": "from file\n", "/crlf": "x\r\n", "/two": "x\n\n", "/empty": "\n"}[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
	secrets := config.NewSecrets(resolve, nil)
	for ref, want := range map[string]string{
		"${env:A}": "from env", "${file:/f}": "from file", "${file:/crlf}": "x", "${file:/two}": "x\n",
		"${env:REF}": "${file:/f}", // expanded once
		"literal":    "literal",
	} {
		got, err := secrets.Get(t.Context(), client(t, ref))
		if err != nil || got.Reveal() != want {
			t.Errorf("%s: got %q, %v", ref, got.Reveal(), err)
		}
	}
	for ref, want := range map[string]error{
		"${env:UNSET}": nil, "${file:/empty}": nil, "${file:/none}": fs.ErrNotExist, "${ssm:/x}": config.ErrSecretKind, "${secretsmanager:x}": config.ErrSecretKind,
	} {
		got, err := secrets.Get(t.Context(), client(t, ref))
		if err == nil || want != nil && !errors.Is(err, want) || !got.IsZero() || !strings.Contains(err.Error(), ref) {
			t.Errorf("%s: got %v, %v", ref, got, err)
		}
	}
	if got, err := secrets.Get(t.Context(), &config.Client{}); err != nil || !got.IsZero() {
		t.Errorf("a public client has the secret %v, %v", got, err)
	}
}

var _ = mutant("T76", "internal/config/secrets.go", `if !slot.value.IsZero() && s.now().Sub(slot.readAt) < SecretAge {`, `if !slot.value.IsZero() {`)

func TestThreat_T76_a_secret_is_read_again_when_old_or_refused(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	reads := 0
	secrets := config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
		reads++
		return secret.New(fmt.Sprint("secret ", reads)), nil
	}, func() time.Time { return now })
	c := client(t, "${ssm:/x}")
	read := func(want string) {
		t.Helper()
		if got, err := secrets.Get(t.Context(), c); err != nil || got.Reveal() != want {
			t.Errorf("got %q, %v, want %q", got.Reveal(), err, want)
		}
	}
	read("secret 1")
	now = now.Add(config.SecretAge - time.Second)
	read("secret 1")
	now = now.Add(time.Second)
	read("secret 2")
	before, _ := secrets.Generation(t.Context(), c)
	secrets.Forget(c)
	read("secret 3")
	after, err := secrets.Generation(t.Context(), c)
	if err != nil || len(after) != 8 || before == after {
		t.Errorf("generations %q and %q, %v", before, after, err)
	}
}

func TestSecretIsReadByOneCallerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		reads := 0
		secrets := config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			reads++
			<-release
			return secret.New("s"), nil
		}, nil)
		c := client(t, "${ssm:/x}")
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				if got, err := secrets.Get(t.Context(), c); err != nil || got.Reveal() != "s" {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait.Go(func() {
			synctest.Wait() // the others wait for the one read
			cancel()
			if _, err := secrets.Get(ctx, c); !errors.Is(err, context.Canceled) {
				t.Errorf("a canceled caller got %v", err)
			}
			close(release)
		})
		wait.Wait()
		if reads != 1 {
			t.Errorf("%d reads", reads)
		}
	})
}

func TestReferencesPrintAndSecretsDoNot(t *testing.T) {
	for ref, want := range map[string]string{"${ssm:/a/b}": "${ssm:/a/b}", "${secretsmanager:prod/acme}": "${secretsmanager:prod/acme}", "${secretsmanager:prod/acme#client_secret}": "${secretsmanager:prod/acme#client_secret}", "hunter2": secret.Redacted} {
		c := client(t, ref)
		text, err := c.Secret.MarshalText()
		if got := fmt.Sprint(c.Secret); got != want || err != nil || string(text) != want {
			t.Errorf("%s prints as %s and %s, %v", ref, got, text, err)
		}
		if all := fmt.Sprintf("%v %+v %#v %x", c, *c, c, *c); strings.Contains(all, "hunter2") || strings.Contains(all, "68756e74657232") {
			t.Errorf("the secret leaks: %s", all)
		}
	}
}

func TestGenerationTellsClientsAndSecretsApart(t *testing.T) {
	seen := map[string]bool{}
	for _, pair := range [][2]string{{"a", "b"}, {"a", "c"}, {"b", "b"}, {"a", ""}, {"a\x00b", ""}} {
		g := config.Generation(pair[0], secret.New(pair[1]))
		if len(g) != 8 || seen[g] && pair[0] != "a\x00b" {
			t.Errorf("generation %q of %q", g, pair)
		}
		seen[g] = true
	}
}
