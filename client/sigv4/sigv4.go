// Package sigv4 signs the requests of package client with AWS credentials, for callers that
// Evergrant on AWS knows by their role (iam_callers) and that need no API key:
//
//	evergrant, err := client.New(url, "", client.Options{Sign: sigv4.Signer(cfg.Credentials, cfg.Region)})
//
// The role needs execute-api:Invoke on the stack's SignedCallersArn.
package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// service is what API Gateway's endpoints are called in a signature.
const service = "execute-api"

// Signer returns what client.Options.Sign takes. It asks credentials for each request, so they
// should be cached ones, as those of the SDK's own configuration are. region is that of the stack.
func Signer(credentials aws.CredentialsProvider, region string) func(context.Context, *http.Request, []byte) error {
	signer := v4.NewSigner()
	return func(ctx context.Context, r *http.Request, body []byte) error {
		c, err := credentials.Retrieve(ctx)
		if err != nil {
			return fmt.Errorf("AWS credentials: %w", err)
		}
		hash := sha256.Sum256(body)
		return signer.SignHTTP(ctx, c, r, hex.EncodeToString(hash[:]), service, region, time.Now())
	}
}
