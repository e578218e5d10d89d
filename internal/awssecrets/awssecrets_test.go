package awssecrets

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/config"
)

func services(t *testing.T) (*awssim.Server, *awsjson.Client, *awsjson.Client) {
	t.Helper()
	sim := awssim.New()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	c := aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}
	return sim, awsjson.New(c, awsjson.SSM()), awsjson.New(c, awsjson.SecretsManager())
}

// clientWith is a configured client whose secret is the reference.
func clientWith(t *testing.T, ref string) *config.Client {
	t.Helper()
	c, err := config.Parse([]byte(`{"integrations": {"acme": {
		"provider": {"name": "Acme", "token_endpoint": "https://acme.example/token", "grant_types_supported": ["client_credentials"], "token_endpoint_auth_method": "client_secret_basic"},
		"client_id": "abc", "client_secret": "` + ref + `"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &c.Integrations[0].Clients[0]
}

func TestReferencesAreResolved(t *testing.T) {
	sim, parameters, secrets := services(t)
	sim.SetParameter("/evergrant/acme", "CANARY-parameter")
	sim.SetSecret("evergrant/acme", "CANARY-secret")
	cache := config.NewSecrets(New(parameters, secrets), nil)
	for ref, want := range map[string]string{
		"${ssm:/evergrant/acme}":           "CANARY-parameter",
		"${secretsmanager:evergrant/acme}": "CANARY-secret",
	} {
		got, err := cache.Get(t.Context(), clientWith(t, ref))
		if err != nil || got.Reveal() != want {
			t.Errorf("%s: %v, right value: %v", ref, err, got.Reveal() == want)
		}
	}
}

func TestErrorNamesTheReference(t *testing.T) {
	sim, parameters, secrets := services(t)
	resolve := New(parameters, secrets)
	for ref, why := range map[string]string{
		"${ssm:/evergrant/gone}":           errNoParameter.Error(),
		"${secretsmanager:evergrant/gone}": "ResourceNotFoundException",
	} {
		_, err := config.NewSecrets(resolve, nil).Get(t.Context(), clientWith(t, ref))
		if err == nil || !strings.Contains(err.Error(), ref) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	sim.Refuse("AmazonSSM.GetParameters", "AccessDeniedException")
	_, err := config.NewSecrets(resolve, nil).Get(t.Context(), clientWith(t, "${ssm:/other/acme}"))
	if err == nil || !strings.Contains(err.Error(), "${ssm:/other/acme}") || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	for _, ref := range []string{"${env:ACME_SECRET}", "${file:/run/secret}"} {
		if _, err := config.NewSecrets(resolve, nil).Get(t.Context(), clientWith(t, ref)); !errors.Is(err, config.ErrSecretKind) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestMemberOfASecret(t *testing.T) {
	sim, _, secrets := services(t)
	sim.SetSecret("object", `{"client_secret": "CANARY-member", "port": 5432}`)
	sim.SetSecret("text", "CANARY-text")
	got, err := managed(t.Context(), secrets, "object#client_secret")
	if err != nil || got.Reveal() != "CANARY-member" {
		t.Error(err)
	}
	for _, name := range []string{"object#gone", "object#port", "object#", "text#client_secret"} {
		if _, err := managed(t.Context(), secrets, name); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
