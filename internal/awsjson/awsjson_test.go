package awsjson_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"github.com/evergrant/evergrant/internal/awsjson"
)

// at is a configuration whose service is h.
func at(t *testing.T, h http.HandlerFunc) aws.Config {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "CANARY-key", SessionToken: "CANARY-token"}, nil
		}),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Millisecond })
		},
	}
}

type shout struct{ Word string }

func TestRequestIsOfTheProtocol(t *testing.T) {
	c := awsjson.New(at(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		auth := r.Header.Get("Authorization")
		if r.Method != "POST" || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || r.Header.Get("X-Amz-Target") != "TrentService.Shout" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKID/") || !strings.Contains(auth, "/eu-central-1/kms/aws4_request, SignedHeaders=") ||
			!strings.Contains(auth, "x-amz-target") || r.Header.Get("X-Amz-Security-Token") != "CANARY-token" || strings.Contains(auth, "CANARY") {
			t.Errorf("authorization %s", auth)
		}
		if string(body) != `{"Word":"hey"}` {
			t.Errorf("body %s", body)
		}
		_, _ = w.Write([]byte(`{"Word":"HEY"}`))
	}), awsjson.KMS())
	var out shout
	if err := c.Do(t.Context(), "Shout", shout{"hey"}, &out); err != nil || out.Word != "HEY" {
		t.Errorf("%q, %v", out.Word, err)
	}
}

// TestServicesHaveAddresses: without a base endpoint the request goes to the service itself.
func TestServicesHaveAddresses(t *testing.T) {
	for want, c := range map[string]struct {
		service awsjson.Service
		region  string
	}{
		"https://kms.eu-central-1.amazonaws.com/":         {awsjson.KMS(), "eu-central-1"},
		"https://sqs.us-gov-west-1.amazonaws.com/":        {awsjson.SQS(), "us-gov-west-1"},
		"https://ssm.cn-north-1.amazonaws.com.cn/":        {awsjson.SSM(), "cn-north-1"},
		"https://secretsmanager.us-east-1.amazonaws.com/": {awsjson.SecretsManager(), "us-east-1"},
	} {
		conf := at(t, nil)
		asked := ""
		conf.BaseEndpoint, conf.Region = nil, c.region
		conf.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			asked = r.URL.String()
			return nil, errors.New("away")
		})
		if err := awsjson.New(conf, c.service).Do(t.Context(), "X", nil, nil); err == nil || asked != want {
			t.Errorf("asked %s, want %s: %v", asked, want, err)
		}
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestRefusalsAreTyped(t *testing.T) {
	for _, c := range []struct {
		status        int
		header, body  string
		code, message string
		tries         int
		fault         smithy.ErrorFault
	}{
		{400, "", `{"__type":"AccessDeniedException","Message":"no"}`, "AccessDeniedException", "no", 1, smithy.FaultClient},
		{400, "", `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"none"}`, "QueueDoesNotExist", "none", 1, smithy.FaultClient},
		{400, "ResourceNotFoundException:http://internal/", `{"message":"none"}`, "ResourceNotFoundException", "none", 1, smithy.FaultClient},
		{400, "", `{"__type":"ThrottlingException","message":"slower"}`, "ThrottlingException", "slower", 3, smithy.FaultClient},
		{500, "", `{"__type":"InternalFailure"}`, "InternalFailure", "", 3, smithy.FaultServer},
		{503, "", `<html>`, "", "", 3, smithy.FaultServer},
		{413, "", ``, "", "", 1, smithy.FaultClient},
	} {
		tries := 0
		conf := at(t, func(w http.ResponseWriter, _ *http.Request) {
			tries++
			w.Header().Set("X-Amzn-RequestId", "r1")
			if c.header != "" {
				w.Header().Set("X-Amzn-ErrorType", c.header)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		err := awsjson.New(conf, awsjson.SQS()).Do(t.Context(), "SendMessage", shout{"CANARY"}, nil)
		var refused *awsjson.Error
		var api smithy.APIError
		if !errors.As(err, &refused) || !errors.As(err, &api) {
			t.Fatalf("%v", err)
		}
		if api.ErrorCode() != c.code || api.ErrorMessage() != c.message || api.ErrorFault() != c.fault || refused.Status != c.status || refused.RequestID != "r1" || tries != c.tries {
			t.Errorf("%d %s: %+v after %d tries", c.status, c.body, refused, tries)
		}
		if text := err.Error(); !strings.Contains(text, "sqs:SendMessage") || strings.Contains(text, "CANARY") {
			t.Errorf("text %s", text)
		}
	}
}

func TestWhatFailsOnceIsSentAgain(t *testing.T) {
	tries := 0
	conf := at(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if tries++; tries == 1 {
			panic(http.ErrAbortHandler) // the connection ends without an answer
		}
		_, _ = w.Write(body)
	})
	var out shout
	if err := awsjson.New(conf, awsjson.SSM()).Do(t.Context(), "X", shout{"hey"}, &out); err != nil || out.Word != "hey" || tries != 2 {
		t.Errorf("%q after %d tries, %v", out.Word, tries, err)
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	conf := at(t, func(w http.ResponseWriter, _ *http.Request) {
		tries++
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	conf.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Hour })
	}
	if err := awsjson.New(conf, awsjson.SSM()).Do(ctx, "X", nil, nil); err == nil || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestOutputOfAnotherFormIsNotQuoted(t *testing.T) {
	for _, body := range []string{`{"Word":7,"x":"CANARY"}`, `CANARY`, ``} {
		conf := at(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		var out shout
		if err := awsjson.New(conf, awsjson.KMS()).Do(t.Context(), "X", nil, &out); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
