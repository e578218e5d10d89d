// Initbench measures what a cold start costs before the first request: from the start of each
// function's process to its first request for an invocation, on the Runtime API emulator,
// against a function that does nothing, in the same run. It also prints the sizes of the zip
// files that Lambda would load.
//
//	make bench-init
//
// One of each binary is measured in every round, in an order drawn anew, so that what disturbs
// the machine disturbs all alike. A ratio is that of the medians. The time holds nothing of
// Lambda's own: no download, no start of an environment.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// floor is the function that does nothing.
const floor = "empty"

// bars are what a function may cost: its init as a multiple of the floor's, and its zip file.
var bars = []struct {
	function string
	ratio    float64
	mib      float64
}{
	{"authorize", 2.0, 4},
	{"callback", 2.0, 4},
	{"refresh", 3.5, 5},
	{"api", 3.5, 5},
}

func main() {
	here := flag.String("here", "build/here", "folder of the binaries for this machine")
	zips := flag.String("zips", "build", "folder of the zip files")
	rounds := flag.Int("rounds", 101, "how often each binary is started")
	flag.Parse()
	lines, err := run(context.Background(), os.Stdout, *here, *zips, *rounds)
	if err == nil {
		err = print(os.Stdout, lines)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "initbench:", err)
		os.Exit(1)
	}
}

// line is one figure, as it is printed for programs.
type line struct {
	Bench string  `json:"bench"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Floor float64 `json:"floor"` // of the function that does nothing
	Ratio float64 `json:"ratio"`
	Bar   float64 `json:"bar"` // for the ratio, or for the value where it is a size
	Met   bool    `json:"met"`
}

func run(ctx context.Context, out io.Writer, here, zips string, rounds int) ([]line, error) {
	packages, err := os.MkdirTemp("", "initbench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(packages) }()
	names := []string{floor}
	for _, b := range bars {
		names = append(names, b.function)
	}
	functions := map[string]*runtimeapi.Function{}
	for _, name := range names {
		if functions[name], err = prepare(packages, here, name); err != nil {
			return nil, err
		}
	}
	took := map[string][]time.Duration{}
	for n := range rounds + 3 { // the first three fill the caches of the system
		for _, k := range rand.Perm(len(names)) {
			name := names[k]
			f := functions[name]
			d, err := f.Provision(ctx)
			f.Shutdown()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if n >= 3 {
				took[name] = append(took[name], d)
			}
		}
	}
	fmt.Fprintf(out, "%-10s %9s %9s %9s %7s %6s   (%d starts each)\n", "init", "p10 ms", "median ms", "p90 ms", "ratio", "bar", rounds)
	var lines []line
	least := median(took[floor])
	row(out, floor, took[floor], "", "")
	for _, b := range bars {
		m := median(took[b.function])
		l := line{"init/" + b.function, ms(m), "ms", ms(least), round(float64(m) / float64(least)), b.ratio, false}
		l.Met = l.Ratio <= l.Bar
		row(out, b.function, took[b.function], fmt.Sprintf("%.2f", l.Ratio), fmt.Sprintf("%.1f", b.ratio))
		lines = append(lines, l)
	}
	sizes, err := measureZips(out, zips)
	return append(lines, sizes...), err
}

func row(out io.Writer, name string, took []time.Duration, ratio, bar string) {
	fmt.Fprintf(out, "%-10s %9.2f %9.2f %9.2f %7s %6s\n", name, ms(quantile(took, 10)), ms(median(took)), ms(quantile(took, 90)), ratio, bar)
}

func measureZips(out io.Writer, folder string) ([]line, error) {
	least, err := size(folder, floor)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "\n%-10s %9s %23s %6s   (arm64)\n%-10s %9.2f\n", "zip", "MiB", "ratio", "bar", floor, least)
	var lines []line
	for _, b := range bars {
		mib, err := size(folder, b.function)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{"zip/" + b.function, mib, "MiB", least, round(mib / least), b.mib, mib <= b.mib})
		fmt.Fprintf(out, "%-10s %9.2f %23.2f %6.0f\n", b.function, mib, mib/least, b.mib)
	}
	return lines, nil
}

func size(folder, function string) (float64, error) {
	info, err := os.Stat(filepath.Join(folder, function+".zip"))
	if err != nil {
		return 0, err
	}
	return round(float64(info.Size()) / (1 << 20)), nil
}

// print writes the lines for programs, and says which bars are missed.
func print(out io.Writer, lines []line) error {
	fmt.Fprintln(out)
	var missed []string
	for _, l := range lines {
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", b)
		if !l.Met {
			missed = append(missed, l.Bench)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("over the bar: %s", strings.Join(missed, ", "))
	}
	return nil
}

func median(took []time.Duration) time.Duration { return quantile(took, 50) }

func quantile(took []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)-1)*percent/100]
}

func ms(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func round(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 2, 64), 64)
	return r
}

// settings is a configuration of some size: one integration of each kind in the catalogue.
const settings = `
integrations:
  askfred: {client_id: app, client_secret: "${ssm:/evergrant/askfred}", return_to: ["https://app.example.com/*"]}
  freeagent: {client_id: app, client_secret: "${ssm:/evergrant/freeagent}", return_to: ["https://app.example.com/*"]}
  whenfresh: {client_id: app, client_secret: "${ssm:/evergrant/whenfresh}"}
  redbooth: {client_id: app, client_secret: "${secretsmanager:evergrant/redbooth}", binding: cookie, return_to: ["https://app.example.com/*"]}
  fflogs: {client_id: app, client_secret: "${ssm:/evergrant/fflogs}", return_to: ["https://app.example.com/*"]}
api_keys:
  - {name: backend, hash: "HASH", allow: [connect, token, manage], integrations: ["*"], owners: ["*"]}
`

// prepare lays a package out as Lambda unpacks it.
func prepare(packages, here, name string) (*runtimeapi.Function, error) {
	binary, err := filepath.Abs(filepath.Join(here, name, "bootstrap"))
	if err != nil {
		return nil, err
	}
	c, err := yamlfile.Parse([]byte(strings.ReplaceAll(settings, "HASH", config.HashAPIKey(secret.New("evg_example")))))
	if err != nil {
		return nil, err
	}
	compiled, err := c.Compile()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(packages, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(binary, filepath.Join(folder, "bootstrap")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(folder, "evergrant.json"), compiled, 0o600); err != nil {
		return nil, err
	}
	const queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/"
	return runtimeapi.New(runtimeapi.Config{
		Name: name, Bootstrap: filepath.Join(folder, "bootstrap"), Region: "eu-central-1", Log: os.Stderr,
		Env: map[string]string{
			"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
			"EVERGRANT_DEPLOYMENT": "evergrant", "EVERGRANT_CONNECTIONS_TABLE": "connections", "EVERGRANT_AUTHORIZATIONS_TABLE": "authorizations",
			"EVERGRANT_KMS_KEY": "arn:aws:kms:eu-central-1:123456789012:key/one", "EVERGRANT_CHUNK_QUEUE": queue + "chunks", "EVERGRANT_RESCUE_QUEUE": queue + "rescue",
			"EVERGRANT_CHUNK_DEAD_LETTERS": queue + "chunks-dead", "EVERGRANT_RESCUE_DEAD_LETTERS": queue + "rescue-dead", "EVERGRANT_EVENT_BUS": "evergrant",
		},
	}), nil
}
