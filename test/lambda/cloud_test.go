package lambda_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

const (
	region  = "eu-central-1"
	account = "123456789012" // moto's
	// kitKey is the access key of the tests themselves, which no role stands behind.
	// DynamoDB Local keeps the tables of each access key apart, so this one owns all.
	kitKey = "KIT"
)

// cloud is the AWS of these tests.
type cloud struct {
	dynamodb string // address of DynamoDB Local
	moto     string // address of moto, which is everything else
	ledger   ledger
}

// startCloud finds DynamoDB Local and starts moto, until the test ends. Both listen on
// loopback only.
func startCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{dynamodb: os.Getenv("EVERGRANT_DYNAMODB")}
	folder := os.Getenv("EVERGRANT_MOTO")
	if c.dynamodb == "" || folder == "" {
		t.Skip("EVERGRANT_DYNAMODB and EVERGRANT_MOTO are not set; run: make reference-dynamodb reference-moto, then make test SUITES=lambda-flow")
	}
	command := exec.Command(filepath.Join(folder, "bin", "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	command.Env = []string{"PATH=/usr/bin:/bin", "PYTHONUNBUFFERED=1", "HOME=" + t.TempDir()}
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = command.Process.Kill() // it keeps nothing
		<-drained
		_ = command.Wait()
	})
	address := make(chan string, 1)
	go func() {
		defer close(drained)
		defer close(address)
		running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if found := running.FindStringSubmatch(lines.Text()); found != nil {
				address <- found[1]
			}
		}
	}()
	select {
	case at, ok := <-address:
		if !ok {
			t.Fatal("moto ended before it was ready")
		}
		c.moto = at
	case <-time.After(time.Minute):
		t.Fatal("moto was not ready within a minute")
	}
	return c
}

// warm has DynamoDB Local load what expressions need, which takes it seconds: longer, on a
// busy machine, than a function waits for its first answer.
func (c *cloud) warm(t *testing.T) {
	t.Helper()
	key := map[string]any{"pk": map[string]string{"S": "x"}}
	c.call(t, "dynamodb", "CreateTable", map[string]any{
		"TableName": "warm", "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": []map[string]string{{"AttributeName": "pk", "AttributeType": "S"}},
		"KeySchema": []map[string]string{{"AttributeName": "pk", "KeyType": "HASH"}},
	})
	c.call(t, "dynamodb", "UpdateItem", map[string]any{
		"TableName": "warm", "Key": key, "UpdateExpression": "SET #a = :v", "ConditionExpression": "attribute_not_exists(#a)",
		"ExpressionAttributeNames": map[string]string{"#a": "a"}, "ExpressionAttributeValues": map[string]any{":v": map[string]string{"N": "1"}},
	})
	c.call(t, "dynamodb", "GetItem", map[string]any{"TableName": "warm", "Key": key})
}

// services are the names that AWS's JSON protocols have for what is used here.
var services = map[string]struct{ target, version string }{
	"dynamodb":       {"DynamoDB_20120810", "1.0"},
	"events":         {"AWSEvents", "1.1"},
	"kms":            {"TrentService", "1.1"},
	"secretsmanager": {"secretsmanager", "1.1"},
	"sqs":            {"AmazonSQS", "1.0"},
	"ssm":            {"AmazonSSM", "1.1"},
}

// try carries out an operation with the rights of the access key at an address, and returns
// the HTTP status with the answer.
func try(t *testing.T, address, key, service, operation string, in any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	s := services[service]
	r.Header.Set("Content-Type", "application/x-amz-json-"+s.version)
	r.Header.Set("X-Amz-Target", s.target+"."+operation)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/20260312/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatalf("%s.%s answers %d: %s", service, operation, res.StatusCode, b)
		}
	}
	return res.StatusCode, out
}

// call carries out an operation as the tests themselves, past all roles.
func (c *cloud) call(t *testing.T, service, operation string, in any) map[string]any {
	t.Helper()
	address := c.moto
	if service == "dynamodb" {
		address = c.dynamodb
	}
	status, out := try(t, address, kitKey, service, operation, in)
	if status != http.StatusOK {
		t.Fatalf("%s.%s answers %d: %v", service, operation, status, out)
	}
	return out
}

func arn(service, rest string) string {
	return fmt.Sprintf("arn:aws:%s:%s:%s:%s", service, region, account, rest)
}
