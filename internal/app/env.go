package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Service is an AWS service as the variables AWS_ENDPOINT_URL_… name it.
type Service string

// The services that a function may call.
const (
	DynamoDB       Service = "DYNAMODB"
	KMS            Service = "KMS"
	SQS            Service = "SQS"
	SSM            Service = "SSM"
	SecretsManager Service = "SECRETS_MANAGER"
	EventBridge    Service = "EVENTBRIDGE"
)

// Env is the settings of a function, as template.yaml writes them into its
// environment. None of them is secret.
type Env struct {
	// Deployment names the stack. It is bound into every sealed value and is part of
	// the encryption context of KMS; the deployment that the configuration may name
	// is for evergrant serve.
	Deployment string
	// PublicURL is the origin that users and providers see, without a trailing slash.
	// Empty: the configuration's, or else the gateway's own.
	PublicURL string
	// Epoch is the restore epoch, raised by one after a table was restored.
	Epoch int64
	// Console: the API serves the operator's console.
	Console bool

	ConnectionsTable    string // name or ARN
	AuthorizationsTable string // name or ARN
	KMSKey              string // ARN of the key that wraps the data keys
	ChunkQueue          string // URL
	RescueQueue         string // URL
	EventBus            string // name or ARN
	ChunkDeadLetters    string // URL of the queue where chunks end that failed too often
	RescueDeadLetters   string // URL

	// ConfigFile is the compiled configuration, packaged beside the binary.
	ConfigFile string

	Region      string
	Credentials aws.CredentialsProvider
	// Endpoints replaces the address of a service, for emulators. Empty on AWS.
	Endpoints map[Service]string
}

// configName is what "evergrant config build" writes.
const configName = "evergrant.json"

// ReadEnv makes the settings of environment variables. executable is the path of the
// binary; the configuration stands beside it unless a variable says otherwise. The
// error names all variables that are missing or wrong, not the first alone.
func ReadEnv(getenv func(string) string, executable string) (Env, error) {
	v := &variables{getenv: getenv}
	e := Env{
		Deployment:          v.text("EVERGRANT_DEPLOYMENT"),
		PublicURL:           v.origin("EVERGRANT_PUBLIC_URL"),
		Epoch:               v.count("EVERGRANT_RESTORE_EPOCH"),
		Console:             v.flag("EVERGRANT_CONSOLE"),
		ConnectionsTable:    v.text("EVERGRANT_CONNECTIONS_TABLE"),
		AuthorizationsTable: v.text("EVERGRANT_AUTHORIZATIONS_TABLE"),
		KMSKey:              v.text("EVERGRANT_KMS_KEY"),
		ChunkQueue:          v.address("EVERGRANT_CHUNK_QUEUE"),
		RescueQueue:         v.address("EVERGRANT_RESCUE_QUEUE"),
		EventBus:            v.text("EVERGRANT_EVENT_BUS"),
		ChunkDeadLetters:    v.address("EVERGRANT_CHUNK_DEAD_LETTERS"),
		RescueDeadLetters:   v.address("EVERGRANT_RESCUE_DEAD_LETTERS"),
		ConfigFile:          v.configFile(executable),
		Region:              v.text("AWS_REGION"),
		Credentials:         v.credentials(),
		Endpoints:           v.endpoints(),
	}
	return e, errors.Join(v.wrong...)
}

// variables reads environment variables and collects what is wrong with them. It
// quotes no value: a secret may stand in the wrong variable.
type variables struct {
	getenv func(string) string
	wrong  []error
}

func (v *variables) fail(name, text string) {
	v.wrong = append(v.wrong, fmt.Errorf("%s %s", name, text))
}

func (v *variables) text(name string) string {
	s := v.getenv(name)
	if s == "" {
		v.fail(name, "is not set")
	}
	return s
}

func (v *variables) flag(name string) bool {
	s := v.getenv(name)
	if s != "" && s != "true" && s != "false" {
		v.fail(name, "has to be true or false")
	}
	return s == "true"
}

func (v *variables) count(name string) int64 {
	s := v.getenv(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		v.fail(name, "is not a whole number from 0 on")
	}
	return n
}

func (v *variables) address(name string) string {
	s := v.text(name)
	if u, err := url.Parse(s); s != "" && (err != nil || u.Host == "") {
		v.fail(name, "is not a URL")
	}
	return s
}

// origin is empty where the variable is.
func (v *variables) origin(name string) string {
	s := strings.TrimSuffix(v.getenv(name), "/")
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || s != u.Scheme+"://"+u.Host:
		v.fail(name, "is not an origin such as https://auth.example.com")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		v.fail(name, "must be https, since it is not on loopback")
	}
	return s
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// configFile is EVERGRANT_CONFIG, or else stands where Lambda unpacks the package, or
// else beside the binary.
func (v *variables) configFile(executable string) string {
	if file := v.getenv("EVERGRANT_CONFIG"); file != "" {
		return file
	}
	if folder := v.getenv("LAMBDA_TASK_ROOT"); folder != "" {
		return filepath.Join(folder, configName)
	}
	return filepath.Join(filepath.Dir(executable), configName)
}

// credentials are the role's, which Lambda hands to each execution environment for as
// long as that lives; so they are read once, and there is no chain of places to ask.
// They stand in a closure, where nothing prints them.
func (v *variables) credentials() aws.CredentialsProvider {
	c := aws.Credentials{
		AccessKeyID: v.text("AWS_ACCESS_KEY_ID"), SecretAccessKey: v.text("AWS_SECRET_ACCESS_KEY"),
		SessionToken: v.getenv("AWS_SESSION_TOKEN"), Source: "Lambda environment",
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
}

// endpoints follows the variables that all AWS SDKs know.
func (v *variables) endpoints() map[Service]string {
	out := map[Service]string{}
	for _, s := range []Service{DynamoDB, KMS, SQS, SSM, SecretsManager, EventBridge} {
		address := v.getenv("AWS_ENDPOINT_URL_" + string(s))
		if address == "" {
			address = v.getenv("AWS_ENDPOINT_URL")
		}
		if address != "" {
			out[s] = address
		}
	}
	return out
}
