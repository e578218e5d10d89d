// Package kmskey provides the wrapping key of a deployment on AWS: a symmetric key
// of AWS KMS, which never leaves the service.
//
// A data key is made here, from crypto/rand, and wrapped by Encrypt. KMS would also
// make one itself (GenerateDataKey), but then a key that is wrapped anew, as when a
// deployment moves to another KMS key, would need Encrypt all the same; with Encrypt
// alone each role needs two permissions, and secret.KeyWrapper one meaning. Nothing
// is lost: the plain key is in this process's memory either way.
package kmskey

import (
	"context"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/secret"
)

// callTime bounds one call with its repeats. It is made at a cold start, and whoever
// waits for it is waited for in turn.
const callTime = 5 * time.Second

// Wrapper wraps data keys under one KMS key. It may be used concurrently.
type Wrapper struct {
	client     *awsjson.Client
	key        string
	deployment string
}

var _ secret.KeyWrapper = (*Wrapper)(nil)

// crypt is the input of Encrypt and Decrypt, and their output.
type crypt struct {
	KeyID             string `json:"KeyId"`
	Plaintext         []byte `json:",omitempty"` // base64 in JSON
	CiphertextBlob    []byte `json:",omitempty"`
	EncryptionContext map[string]string
}

// New returns a Wrapper over the KMS key, which is named by its ARN. The deployment
// becomes part of the encryption context, by which key policy and roles tell
// deployments and purposes apart.
func New(client *awsjson.Client, key, deployment string) *Wrapper {
	return &Wrapper{client: client, key: key, deployment: deployment}
}

// Wrap implements secret.KeyWrapper.
func (w *Wrapper) Wrap(ctx context.Context, p secret.Purpose, plain []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var out crypt
	if err := w.client.Do(ctx, "Encrypt", crypt{KeyID: w.key, Plaintext: plain, EncryptionContext: w.context(p)}, &out); err != nil {
		return nil, fmt.Errorf("wrap data key of purpose %s under %s: %w", p, w.key, err)
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements secret.KeyWrapper. The key is named although KMS could tell it
// from the ciphertext: what somebody wrapped under a key of their own must not open.
func (w *Wrapper) Unwrap(ctx context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var out crypt
	if err := w.client.Do(ctx, "Decrypt", crypt{KeyID: w.key, CiphertextBlob: wrapped, EncryptionContext: w.context(p)}, &out); err != nil {
		return nil, fmt.Errorf("unwrap data key of purpose %s under %s: %w", p, w.key, err)
	}
	return out.Plaintext, nil
}

// context is the encryption context: KMS authenticates it with the ciphertext, checks
// it against the caller's permissions, and writes it into CloudTrail in clear.
func (w *Wrapper) context(p secret.Purpose) map[string]string {
	return map[string]string{"deployment": w.deployment, "purpose": string(p)}
}
