package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A suite is one row of what `make test` runs.
type suite struct {
	name    string
	command []string
	// goTest says that the command prints go test's JSON, which is then counted.
	goTest bool
	// whole refuses every skipped test. Otherwise a test may be skipped that names the
	// reference it waits for; that reference's own suite runs it.
	whole bool
	// before runs first, with its output in the same log. Nil: nothing.
	before []string
	// env is added to the environment.
	env []string
	// needs must all be here, or the suite is skipped.
	needs []need
	// limit ends a suite that hangs.
	limit time.Duration
}

// A need is a thing that a suite cannot do without. "what is not here; remedy" is told when
// here is false.
type need struct {
	what   string
	remedy string
	here   func() bool
}

// references name, for the tests, where a reference server or program is. A test that needs
// one skips itself without it, naming the variable. The runner sets each for its own suite
// alone, so that what runs where does not depend on who runs it.
var references = [...]string{
	"EVERGRANT_DYNAMODB", "EVERGRANT_MOTO", "EVERGRANT_OIDC_PROVIDER", "EVERGRANT_CHROMIUM", "EVERGRANT_AXE", "EVERGRANT_OAUTH_CLIENTS", "EVERGRANT_SHELLS",
	"EVERGRANT_CLIENT_TYPESCRIPT", "EVERGRANT_CLIENT_PYTHON", "EVERGRANT_CLIENT_WORLD", "EVERGRANT_SCHEMATHESIS", "EVERGRANT_SAM",
}

// onDynamoDB are the packages that test more where DynamoDB Local is: the store's contract, the
// four functions' whole path, and the faults and attacks that storage meets.
var onDynamoDB = []string{"./internal/dynamostore/...", "./internal/app/...", "./test/faults/...", "./test/threats/..."}

// suites lists the suites in the order in which they run, fast ones first. root is the
// absolute path of the repository.
func suites(root string) []suite {
	reference := filepath.Join(root, "build", "reference")
	oidc := filepath.Join(reference, "oidc")
	dynamodb := []need{
		{"Linux", "elsewhere nothing keeps DynamoDB Local off the network", func() bool { return runtime.GOOS == "linux" }},
		fetched(reference, "dynamodb", "DynamoDB Local"),
		tool("java", "install Java 17 or newer, such as Debian's default-jre-headless"),
		tool("ip", "install iproute2"),
		{"the right to make a network namespace", "become root, or allow user namespaces", namespaces},
	}
	return []suite{
		{
			name:    "house",
			command: []string{"go", "test", "-json", "-count=1", "."},
			goTest:  true, whole: true,
			limit: 5 * time.Minute,
		},
		{
			name:    "lint",
			command: []string{"make", "--no-print-directory", "lint"},
			limit:   10 * time.Minute,
		},
		{
			name:    "gosec",
			command: []string{"make", "--no-print-directory", "gosec"},
			limit:   15 * time.Minute,
		},
		{
			name:    "flood",
			command: []string{"make", "--no-print-directory", "flood", "FLOODTIME=10s"},
			needs:   []need{{"Linux", "elsewhere the server's memory cannot be read", func() bool { return runtime.GOOS == "linux" }}},
			limit:   5 * time.Minute,
		},
		{
			name:    "supply-chain",
			command: []string{"make", "--no-print-directory", "sbom", "licences", "reproducible"},
			limit:   15 * time.Minute,
		},
		{
			name:    "lambda",
			command: []string{"make", "--no-print-directory", "zip"},
			limit:   10 * time.Minute,
		},
		{
			name:    "cfn-lint",
			command: []string{"make", "--no-print-directory", "cfn-lint"},
			needs:   []need{fetched(reference, "cfn-lint", "cfn-lint")},
			limit:   5 * time.Minute,
		},
		{
			name:    "unit",
			command: []string{"go", "test", "-json", "./..."},
			goTest:  true,
			limit:   15 * time.Minute,
		},
		{
			name:    "oidc",
			command: []string{"go", "test", "-json", "-count=1", "./test/oidc/..."},
			goTest:  true, whole: true,
			env: []string{
				"EVERGRANT_OIDC_PROVIDER=" + oidc,
				"PATH=" + filepath.Join(oidc, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
			},
			needs: []need{fetched(reference, "oidc", "oidc-provider")},
			limit: 10 * time.Minute,
		},
		{
			name:    "client-typescript",
			command: []string{"go", "test", "-json", "-count=1", "-run", "^TestTypeScript$", "./test/clients"},
			goTest:  true, whole: true,
			env: []string{
				"EVERGRANT_CLIENT_TYPESCRIPT=" + filepath.Join(reference, "typescript"),
				// The Node.js that comes with oidc-provider: the system's may be too old.
				"PATH=" + filepath.Join(oidc, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
			},
			needs: []need{fetched(reference, "typescript", "the TypeScript compiler"), fetched(reference, "oidc", "oidc-provider, with its Node.js"), tool("npm", "install npm")},
			limit: 10 * time.Minute,
		},
		{
			name:    "client-python",
			command: []string{"go", "test", "-json", "-count=1", "-run", "^TestPython$", "./test/clients"},
			goTest:  true, whole: true,
			env:   []string{"EVERGRANT_CLIENT_PYTHON=" + filepath.Join(reference, "python")},
			needs: []need{fetched(reference, "python", "the Python packages of the clients' tests")},
			limit: 10 * time.Minute,
		},
		{
			name:    "schemathesis",
			command: []string{"go", "test", "-json", "-count=1", "-run", "^TestSchemathesis$", "./test/clients"},
			goTest:  true, whole: true,
			env:   []string{"EVERGRANT_SCHEMATHESIS=" + filepath.Join(reference, "schemathesis")},
			needs: []need{fetched(reference, "schemathesis", "schemathesis")},
			limit: 10 * time.Minute,
		},
		{
			name:    "dynamodb",
			command: append([]string{"tools/dynamodb-run", "go", "test", "-json", "-count=1", "-timeout=14m"}, onDynamoDB...),
			goTest:  true, whole: true,
			// Compiles, and downloads modules, before the network is taken away.
			before: append([]string{"go", "test", "-run", "^$"}, onDynamoDB...),
			needs:  dynamodb,
			limit:  15 * time.Minute,
		},
		{
			name:    "lambda-flow",
			command: []string{"tools/dynamodb-run", "go", "test", "-json", "-count=1", "-skip", "^TestSAM$", "./test/lambda/..."},
			goTest:  true, whole: true,
			before: []string{"sh", "-c", "make --no-print-directory functions-here && go test -run '^$' ./test/lambda/..."},
			env:    []string{"EVERGRANT_MOTO=" + filepath.Join(reference, "moto")},
			needs:  append(slices.Clone(dynamodb), fetched(reference, "moto", "moto")),
			limit:  10 * time.Minute,
		},
		{
			name: "sam",
			command: []string{
				"tools/podman-run", "tools/dynamodb-run", "go", "test", "-json", "-count=1", "-run", "^TestSAM$", "./test/lambda",
			},
			goTest: true, whole: true,
			// What the test and the functions are made of, before the network is taken away.
			before: []string{"sh", "-c", "go build ./cmd/evergrant ./functions/... && go test -run '^$' ./test/lambda"},
			env: []string{
				"EVERGRANT_SAM=" + filepath.Join(reference, "sam"), "EVERGRANT_MOTO=" + filepath.Join(reference, "moto"),
			},
			needs: append(
				slices.Clone(dynamodb), fetched(reference, "moto", "moto"), fetched(reference, "sam", "the AWS SAM CLI"),
				need{"root", "containers need it", func() bool { return os.Geteuid() == 0 }},
				tool("podman", "install podman, runc, netavark and iptables"), tool("runc", "install it"), tool("iptables", "install it"),
				tool("busybox", "install busybox-static"),
			),
			limit: 10 * time.Minute,
		},
		{
			name:    "oauth-clients",
			command: []string{"go", "test", "-json", "-count=1", "./test/standin/..."},
			goTest:  true, whole: true,
			env:   []string{"EVERGRANT_OAUTH_CLIENTS=" + filepath.Join(reference, "oauth-clients")},
			needs: []need{fetched(reference, "oauth-clients", "OAuth clients of others"), tool("node", "install Node.js 20 or newer")},
			limit: 10 * time.Minute,
		},
		{
			name: "shells",
			command: []string{
				"go", "test", "-json", "-count=1", "-run", "TestShellsComplete", "./cmd/evergrant/...",
			},
			goTest: true, whole: true,
			env:   []string{"EVERGRANT_SHELLS=yes"},
			needs: []need{tool("bash", "install it"), tool("zsh", "install it"), tool("fish", "install it")},
			limit: 5 * time.Minute,
		},
		{
			name:    "browser",
			command: []string{"go", "test", "-json", "-count=1", "./test/browser/..."},
			goTest:  true, whole: true,
			env: []string{
				"EVERGRANT_CHROMIUM=" + filepath.Join(reference, "chromium", "chromium"),
				"EVERGRANT_AXE=" + filepath.Join(reference, "axe", "node_modules", "axe-core", "axe.min.js"),
			},
			needs: []need{fetched(reference, "chromium", "Chromium"), fetched(reference, "axe", "axe-core")},
			limit: 10 * time.Minute,
		},
		{
			name: "race",
			// Not the rehearsals of all providers: minutes of the same code, one goroutine at a time.
			command: []string{"sh", "-c", "go test -json -race -timeout=20m $(go list ./... | grep -v /test/providers)"},
			goTest:  true,
			needs:   []need{{"a C compiler", "install gcc and libc6-dev, or your system's kin", compiler}},
			limit:   25 * time.Minute,
		},
	}
}

// fetched needs a folder under build/reference, which `make reference-<folder>` fills.
func fetched(reference, folder, what string) need {
	return need{what, "run: make reference-" + folder, func() bool {
		_, err := os.Stat(filepath.Join(reference, folder, "ready"))
		return err == nil
	}}
}

func tool(name, remedy string) need {
	return need{name, remedy, func() bool {
		_, err := exec.LookPath(name)
		return err == nil
	}}
}

// namespaces asks in the way that tools/dynamodb-run will.
func namespaces() bool {
	args := []string{"--net", "true"}
	if os.Geteuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	return exec.Command("unshare", args...).Run() == nil
}

// compiler reports whether the race detector can be linked: it needs cgo.
func compiler() bool {
	out, err := exec.Command("go", "env", "CGO_ENABLED", "CC").Output()
	if err != nil {
		return false
	}
	enabled, cc, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	name, _, _ := strings.Cut(cc, " ")
	_, err = exec.LookPath(name)
	return enabled == "1" && err == nil
}
