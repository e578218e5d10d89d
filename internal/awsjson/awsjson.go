// Package awsjson provides single operations of AWS services that speak the JSON protocol
// (application/x-amz-json): EventBridge, KMS, the Parameter Store, Secrets Manager and SQS.
//
// The SDK has a package for each of them, which describes every operation of its service
// when a program starts. For the Parameter Store alone that takes as long as an empty
// function takes to start altogether, and a megabyte. Evergrant calls eight operations of
// these services. So they are written out where they are used, and what is not a matter of
// a service stays the SDK's: credentials, the signature, what may be repeated and when.
package awsjson

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Service is what the protocol needs to know of a service.
type Service struct {
	Name    string // in host names and signatures
	Target  string // before the operation in X-Amz-Target
	Version string // of the protocol
}

// EventBridge is Amazon EventBridge, for its event buses.
func EventBridge() Service { return Service{"events", "AWSEvents", "1.1"} }

// KMS is the AWS Key Management Service.
func KMS() Service { return Service{"kms", "TrentService", "1.1"} }

// SSM is AWS Systems Manager, for its Parameter Store.
func SSM() Service { return Service{"ssm", "AmazonSSM", "1.1"} }

// SecretsManager is AWS Secrets Manager.
func SecretsManager() Service { return Service{"secretsmanager", "secretsmanager", "1.1"} }

// SQS is Amazon Simple Queue Service.
func SQS() Service { return Service{"sqs", "AmazonSQS", "1.0"} }

// Client calls one service in one region. It may be used concurrently.
type Client struct {
	service  Service
	config   aws.Config
	endpoint string
	signer   *v4.Signer
	retryer  aws.Retryer
}

// New returns a client with the configuration's region, credentials, HTTP client and
// retryer. A BaseEndpoint takes the place of the service's own address.
func New(c aws.Config, s Service) *Client {
	client := &Client{service: s, config: c, endpoint: endpoint(s.Name, c.Region), signer: v4.NewSigner()}
	if c.BaseEndpoint != nil {
		client.endpoint = *c.BaseEndpoint
	}
	if client.config.HTTPClient == nil {
		client.config.HTTPClient = http.DefaultClient
	}
	if c.Retryer != nil {
		client.retryer = c.Retryer()
	} else {
		client.retryer = retry.NewStandard()
	}
	return client
}

// endpoint is the address of the service in a region.
func endpoint(service, region string) string {
	domain := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain = "amazonaws.com.cn"
	}
	return "https://" + service + "." + region + "." + domain
}

// Error is a service's refusal. It implements smithy.APIError.
type Error struct {
	Operation string // such as kms:Decrypt
	Status    int    // of HTTP
	Code      string // such as AccessDeniedException; "" where the answer has none
	Message   string // the service's own words
	RequestID string // by which AWS finds the request
}

var _ smithy.APIError = (*Error)(nil)

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: status %d, request %s, %s: %s", e.Operation, e.Status, e.RequestID, e.Code, e.Message)
}

// ErrorCode implements smithy.APIError.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage implements smithy.APIError.
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorFault implements smithy.APIError.
func (e *Error) ErrorFault() smithy.ErrorFault {
	if e.Status >= http.StatusInternalServerError {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}

// HTTPStatusCode is what the SDK's retryer asks for.
func (e *Error) HTTPStatusCode() int { return e.Status }

// Do carries out an operation: in is its input, out, if it is not nil, takes its output,
// both in the JSON of the service's API. It repeats what may be repeated as the retryer
// says, within ctx. The errors of a refusal are *Error; none holds input or output.
func (c *Client) Do(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return c.failed(operation, errors.New("the input is not JSON"))
	}
	for attempt := 1; ; attempt++ {
		answer, err := c.send(ctx, operation, body)
		if err == nil {
			if out != nil && json.Unmarshal(answer, out) != nil { // its error might quote the output
				return c.failed(operation, errors.New("the output is not of the expected form"))
			}
			return nil
		}
		if attempt >= c.retryer.MaxAttempts() || !c.retryer.IsErrorRetryable(err) {
			return err
		}
		if c.pause(ctx, attempt, err) != nil {
			return err
		}
	}
}

// pause waits before the next attempt. An error says that there shall be none.
func (c *Client) pause(ctx context.Context, attempt int, failed error) error {
	release, err := c.retryer.GetRetryToken(ctx, failed)
	if err != nil {
		return err
	}
	delay, err := c.retryer.RetryDelay(attempt, failed)
	if err != nil {
		return err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return release(nil)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxAnswer bounds an answer, in bytes: ten messages of SQS are the largest.
const maxAnswer = 16 << 20

func (c *Client) send(ctx context.Context, operation string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, c.failed(operation, errors.New("the endpoint is not a URL"))
	}
	r.Header.Set("Content-Type", "application/x-amz-json-"+c.service.Version)
	r.Header.Set("X-Amz-Target", c.service.Target+"."+operation)
	if err := c.sign(ctx, r, body); err != nil {
		return nil, c.failed(operation, err)
	}
	res, err := c.config.HTTPClient.Do(r)
	if err != nil {
		return nil, c.failed(operation, &smithyhttp.RequestSendError{Err: err}) // which may be repeated
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, c.failed(operation, &smithyhttp.RequestSendError{Err: err})
	}
	if res.StatusCode != http.StatusOK {
		return nil, c.refusal(operation, res, answer)
	}
	return answer, nil
}

func (c *Client) failed(operation string, err error) error {
	return fmt.Errorf("%s:%s: %w", c.service.Name, operation, err)
}

// sign signs with the time of now: AWS takes no signature that is much older or newer.
func (c *Client) sign(ctx context.Context, r *http.Request, body []byte) error {
	credentials, err := c.config.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	return c.signer.SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), c.service.Name, c.config.Region, time.Now())
}

// refusal reads an error. Its type stands in the body or in a header, perhaps behind a
// namespace ("com.amazonaws.sqs#QueueDoesNotExist") or before an address (":http://…").
func (c *Client) refusal(operation string, res *http.Response, answer []byte) error {
	var told struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // some services write Message; case does not matter here
	}
	_ = json.Unmarshal(answer, &told) // a proxy's page is none; then the status has to do
	code := told.Type
	if code == "" {
		code = res.Header.Get("X-Amzn-ErrorType")
	}
	code = code[strings.LastIndexByte(code, '#')+1:]
	code, _, _ = strings.Cut(code, ":")
	return &Error{
		Operation: c.service.Name + ":" + operation, Status: res.StatusCode, Code: code, Message: told.Message,
		RequestID: res.Header.Get("X-Amzn-RequestId"),
	}
}
