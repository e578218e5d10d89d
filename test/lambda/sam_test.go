package lambda_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
)

// TestSAM has SAM's own command line do what a user has it do, with the template, its settings
// and the events of this repository as they are: check, build, invoke each function with each
// event, and open the gateway's routes to a browser. SAM starts each function in a container,
// on the emulator of Lambda's runtime that it brings along.
func TestSAM(t *testing.T) {
	c := newSAM(t)
	t.Run("validate", func(t *testing.T) {
		c.run(t, "validate")
		c.run(t, "validate", "--lint")
	})
	if !t.Run("build", func(t *testing.T) { c.run(t, "build", "--build-dir", c.built, "--parameter-overrides", c.architecture) }) {
		t.Fatal("there is nothing to invoke")
	}
	c.makeImage(t)
	t.Run("invoke", c.invokeEach)
	t.Run("start-api", c.browse)
}

// sam is SAM's command line, with a deployment's tables, queues and keys for its functions.
type sam struct {
	program string
	env     []string
	stack   *stack
	// endpoint is the AWS that a container reaches.
	endpoint string
	// architecture sets the template's parameter to this machine's own, which is what
	// containers here have.
	architecture string
	built        string // folder of the built template
	settings     string // file of the functions' environment
}

// gatewayPort is where start-api listens.
const gatewayPort = "127.0.0.1:3000"

// hostAddress is the address by which tools/podman-run lets containers reach processes
// beside them. Nothing outside can.
const hostAddress = "192.0.2.1"

func newSAM(t *testing.T) *sam {
	t.Helper()
	folder := os.Getenv("EVERGRANT_SAM")
	if folder == "" || os.Getenv("DOCKER_HOST") == "" {
		t.Skip("EVERGRANT_SAM and DOCKER_HOST are not set; run: make sam")
	}
	c := startCloud(t)
	c.warm(t)
	putSecrets(t, c)
	s := newStack(t, c, "evergrant-sam", nil)
	work := t.TempDir()
	source := filepath.Join(work, "evergrant.yaml")
	write(t, source, strings.ReplaceAll(confirmMode, "HASH", config.HashAPIKey(secret.New("evg_example")))) // the events' key
	write(t, filepath.Join(work, "settings.json"), mustJSON(t, map[string]any{
		"Parameters": s.value(at(s.template, "Globals", "Function", "Environment", "Variables")),
	}))
	architecture, goarch := "x86_64", runtime.GOARCH
	if goarch == "arm64" {
		architecture = goarch
	}
	return &sam{
		program: filepath.Join(folder, "bin", "sam"), stack: s, endpoint: listen(t, newProxy(t, c, newRoles(s))),
		architecture: "Architecture=" + architecture, built: filepath.Join(work, "built"), settings: filepath.Join(work, "settings.json"),
		env: append(os.Environ(),
			"SAM_CLI_TELEMETRY=0", "__SAM_CLI_APP_DIR="+work, "SAM_LAYER_CACHE_BASEDIR="+work, "SAM_CLI_CONTAINER_CONNECTION_TIMEOUT=60",
			"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_REGION="+region, "AWS_DEFAULT_REGION="+region,
			"AWS_SECRET_ACCESS_KEY="+awsSecret, "AWS_SESSION_TOKEN="+awsToken,
			// For SAM itself, which asks which managed policies there are.
			"AWS_ENDPOINT_URL="+c.moto,
			// For the Makefile, which builds the functions.
			"CONFIG="+source, "LAMBDA_ARCH="+goarch,
		),
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// listen lets containers ask h, too.
func listen(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", hostAddress+":0")
	if err != nil {
		t.Fatalf("%v; tools/podman-run makes that address", err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// command is one call of SAM in the repository's root, with the rights of an access key.
func (c *sam) command(ctx context.Context, key string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(c.env, "AWS_ACCESS_KEY_ID="+key)
	// Interrupted, SAM removes its containers.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// run runs SAM to its end as nobody in particular, and shows what it says.
func (c *sam) run(t *testing.T, args ...string) {
	t.Helper()
	out, err := c.command(t.Context(), kitKey, args...).CombinedOutput()
	t.Logf("sam %s\n%s", strings.Join(args, " "), out)
	if err != nil {
		t.Fatalf("sam %s: %v", args[0], err)
	}
}

// local are the arguments that each command of `sam local` takes here.
func (c *sam) local(args ...string) []string {
	return append(append([]string{"local"}, args...),
		"--template", filepath.Join(c.built, "template.yaml"), "--parameter-overrides", c.architecture,
		"--env-vars", c.settings, "--skip-pull-image")
}

// makeImage makes the image that SAM looks for, since none can be fetched: what a shell and
// two commands need, for SAM's own layer on it, and the address of this test's AWS. A function
// needs nothing of it. On a machine with Docker and the internet SAM fetches AWS's image.
func (c *sam) makeImage(t *testing.T) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v; install busybox-static", err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"bin/", "etc/", "tmp/", "var/", "var/task/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, name := range []string{"sh", "mv", "chmod"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.importImage(t, "public.ecr.aws/lambda/provided:al2023-"+strings.TrimPrefix(c.architecture, "Architecture="), &image)
}

func (c *sam) importImage(t *testing.T, name string, image io.Reader) {
	t.Helper()
	socket := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	engine := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer engine.CloseIdleConnections()
	q := url.Values{"fromSrc": {"-"}, "repo": {name}, "changes": {"ENV AWS_ENDPOINT_URL=" + c.endpoint}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/v1.41/images/create?"+q.Encode(), image)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-tar")
	res, err := engine.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if said, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("import of the image: %d %s %v", res.StatusCode, said, err)
	}
}

// invocations are the events of the repository, each with what its function must answer on a
// deployment that has just been made: nothing that the events name is there.
var invocations = []struct {
	function, role, event, want string
}{
	{"AuthorizeFunction", "AuthorizeRole", "authorize", `"statusCode":409`},
	{"CallbackFunction", "CallbackRole", "callback", `"statusCode":409`},
	{"ApiFunction", "ApiRole", "api-health", `"statusCode":200`},
	{"ApiFunction", "ApiRole", "api-connect", `"statusCode":201`},
	{"ApiFunction", "ApiRole", "api-token", `"statusCode":404`},
	{"ApiFunction", "ApiRole", "api-token-iam", `"statusCode":404`},
	{"RefreshFunction", "RefreshRole", "refresh-tick", `null`},
	{"RefreshFunction", "RefreshRole", "refresh-chunk", `"batchItemFailures":[]`},
}

// invokeEach has each function answer each event that is meant for it, in an environment of
// its own, with the rights of its role.
func (c *sam) invokeEach(t *testing.T) {
	for _, i := range invocations {
		t.Run(i.event, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("..", "..", "events", i.event+".json"))
			if err != nil {
				t.Fatal(err)
			}
			// What in the events is a deployment's own: a queue's name, and a minute. A tick
			// of long ago would look through all days since, which takes DynamoDB Local a minute.
			event := filepath.Join(t.TempDir(), "event.json")
			write(t, event, strings.NewReplacer(
				"evergrant-ChunkQueue", c.stack.attribute("ChunkQueue", "QueueName"), "2026-03-12T19:03:00Z", minute().Format(time.RFC3339),
			).Replace(string(content)))
			var out, said bytes.Buffer
			cmd := c.command(t.Context(), accessKey(i.role), c.local("invoke", i.function, "--event", event)...)
			cmd.Stdout, cmd.Stderr = &out, &said
			err = cmd.Run()
			t.Logf("sam local invoke %s --event events/%s.json\n%s%s", i.function, i.event, &out, &said)
			if err != nil {
				t.Fatal(err)
			}
			if answer := strings.ReplaceAll(out.String(), " ", ""); !strings.Contains(answer, i.want) {
				t.Errorf("the answer has no %s", i.want)
			}
			if strings.Contains(out.String()+said.String(), "CANARY") {
				t.Error("what it wrote holds a secret")
			}
		})
	}
}

// RoundTrip sends requests for the gateway's name, which SAM says is localhost, to SAM.
func (c *sam) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", gatewayPort
	return http.DefaultTransport.RoundTrip(r)
}

// browse goes the way of a browser through SAM's gateway: from a backend's link to the
// provider, and back with a code to the application.
func (c *sam) browse(t *testing.T) {
	c.startAPI(t)
	origin := "https://localhost"
	backend := func(method, path, key, body string) brokertest.Answer {
		r, err := http.NewRequestWithContext(t.Context(), method, origin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		a := brokertest.NewBrowser(t, c).Do(r)
		t.Logf("%s %s\n%d %s", method, path, a.Status, a.Body)
		return a
	}
	backend("GET", "/healthz", "", "").Want(t, 200, "version")
	backend("GET", "/v1/integrations", "", "").Want(t, 401, "unauthorized")
	backend("GET", "/iam/v1/integrations", "evg_example", "").Want(t, 401, "unauthorized") // SAM checks no signatures
	made := backend("POST", "/v1/connect-sessions", "evg_example", `{"integration":"askfred","owner":"tenant-7","return_to":"https://app.example.com/back"}`).
		Want(t, 201, "").JSON(t)

	b := brokertest.NewBrowser(t, c)
	page := b.Open(text(made, "authorize_url")).Location(t)
	t.Logf("the link leads to %s", page)
	q := page.Query()
	callback, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || callback.String() != origin+"/callback/askfred" || q.Get("state") == "" || q.Get("code_challenge") == "" {
		t.Fatalf("the link leads to %s", page)
	}
	callback.RawQuery = url.Values{"state": {q.Get("state")}, "code": {"example"}}.Encode()
	home := b.Open(callback.String()).Location(t)
	t.Logf("the callback leads to %s", home)
	if home.Host != "app.example.com" || home.Query().Get("evergrant_confirm") == "" || home.Query().Get("evergrant_session") != text(made, "id") {
		t.Errorf("the callback leads to %s", home)
	}
	backend("GET", "/v1/connect-sessions/"+text(made, "id"), "evg_example", "").Want(t, 200, "awaiting_confirm")
	again := b.Open(callback.String())
	t.Logf("the same callback once more\n%d %s", again.Status, again.Body)
	again.Want(t, 409, "<html")
}

// startAPI starts SAM's gateway, which keeps a container for each function, until the test ends.
// All functions have the rights of the tests here: SAM knows one set of credentials.
func (c *sam) startAPI(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := c.command(ctx, kitKey, c.local("start-api", "--warm-containers", "LAZY")...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, drained := make(chan struct{}), make(chan struct{})
	var said brokertest.Log
	go func() {
		defer close(drained)
		lines, found := bufio.NewScanner(stderr), false
		for lines.Scan() {
			_, _ = said.Write(append(lines.Bytes(), '\n'))
			if !found && strings.Contains(lines.Text(), "Running on") {
				found = true
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-drained
		_ = cmd.Wait() // it was interrupted
		t.Logf("sam local start-api\n%s", &said)
	})
	select {
	case <-ready:
	case <-drained:
		t.Fatal("sam local start-api ended before it was ready")
	case <-time.After(2 * time.Minute):
		t.Fatal("sam local start-api was not ready within two minutes")
	}
}
