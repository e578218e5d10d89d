// Package awssecrets provides client secrets from where AWS keeps them: SecureString
// parameters of the SSM Parameter Store, and AWS Secrets Manager.
//
// What is read is not kept here; config.Secrets does that, for a bounded time.
package awssecrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
)

// callTime bounds one read with its repeats: a refresh that waits for it holds a
// worker.
const callTime = 5 * time.Second

// errNoParameter is all that SSM tells: it lists the name as invalid.
var errNoParameter = errors.New("the Parameter Store has no such parameter in this account and region")

// New returns a resolver of ${ssm:…} and ${secretsmanager:…}. All other kinds are
// config.ErrSecretKind: a function's environment and files hold no secret. Its errors
// are what AWS says of the request, and never hold a value.
func New(parameters, secrets *awsjson.Client) config.Resolver {
	return func(ctx context.Context, ref config.SecretRef) (secret.Text, error) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		switch ref.Kind() {
		case config.SecretSSM:
			return parameter(ctx, parameters, ref.Name())
		case config.SecretSecretsManager:
			return managed(ctx, secrets, ref.Name())
		default:
			return secret.Text{}, config.ErrSecretKind
		}
	}
}

// parameter asks by GetParameters, though for one: it is the one permission that the
// roles have.
func parameter(ctx context.Context, client *awsjson.Client, name string) (secret.Text, error) {
	in := struct {
		Names          []string
		WithDecryption bool
	}{[]string{name}, true}
	var out struct{ Parameters []struct{ Value string } }
	if err := client.Do(ctx, "GetParameters", in, &out); err != nil {
		return secret.Text{}, err
	}
	if len(out.Parameters) != 1 {
		return secret.Text{}, errNoParameter
	}
	return secret.New(out.Parameters[0].Value), nil
}

// managed reads a secret by name or ARN or, after a #, one member of a secret that is
// a JSON object, as the console makes them.
func managed(ctx context.Context, client *awsjson.Client, name string) (secret.Text, error) {
	id, member, isMember := strings.Cut(name, "#")
	in := struct {
		SecretID string `json:"SecretId"`
	}{id}
	var out struct{ SecretString *string }
	if err := client.Do(ctx, "GetSecretValue", in, &out); err != nil {
		return secret.Text{}, err
	}
	if out.SecretString == nil {
		return secret.Text{}, errors.New("the secret is binary, and a client secret is text")
	}
	if !isMember {
		return secret.New(*out.SecretString), nil
	}
	var members map[string]any
	if json.Unmarshal([]byte(*out.SecretString), &members) != nil { // its error would quote the secret
		return secret.Text{}, errors.New("the secret is not a JSON object")
	}
	value, ok := members[member].(string)
	if !ok {
		return secret.Text{}, fmt.Errorf("the secret has no text under %q", member)
	}
	return secret.New(value), nil
}
