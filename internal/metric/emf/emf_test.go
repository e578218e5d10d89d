package emf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/metric/emf"
)

func at() time.Time { return time.UnixMilli(1_700_000_000_123) }

// lines reads what was flushed, each line as CloudWatch does.
func lines(t *testing.T, b *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, text := range bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n")) {
		var line map[string]any
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, line)
	}
	return all
}

func TestALineForEachPoint(t *testing.T) {
	var b bytes.Buffer
	w := emf.New(&b, "prod", at)
	w.Observe(metric.Refreshes, metric.Point{Integration: "askfred", Outcome: "saved"}, 1)
	w.Observe(metric.Refreshes, metric.Point{Integration: "askfred", Outcome: "saved"}, 1)
	w.Observe(metric.RefreshLateness, metric.Point{Integration: "askfred"}, 12)
	w.Observe(metric.RefreshLateness, metric.Point{Integration: "askfred"}, 31)
	w.Observe(metric.CircuitsOpen, metric.Point{Integration: "askfred"}, 2)
	w.Observe(metric.CircuitsOpen, metric.Point{Integration: "askfred"}, 1)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	directive := func(dimensions []any, metrics ...any) map[string]any {
		return map[string]any{"Timestamp": 1_700_000_000_123.0, "CloudWatchMetrics": []any{map[string]any{
			"Namespace": "Evergrant", "Dimensions": []any{[]any{"Deployment"}, dimensions}, "Metrics": metrics,
		}}}
	}
	named := func(name, unit string) any { return map[string]any{"Name": name, "Unit": unit} }
	want := []map[string]any{
		{
			"_aws":       directive([]any{"Deployment", "Integration"}, named("RefreshLateness", "Seconds"), named("CircuitsOpen", "Count")),
			"Deployment": "prod", "Integration": "askfred", "RefreshLateness": []any{12.0, 31.0}, "CircuitsOpen": 1.0,
		},
		{
			"_aws":       directive([]any{"Deployment", "Integration", "Outcome"}, named("Refreshes", "Count")),
			"Deployment": "prod", "Integration": "askfred", "Outcome": "saved", "Refreshes": 2.0,
		},
	}
	if d := cmp.Diff(want, lines(t, &b)); d != "" {
		t.Error(d)
	}
	b.Reset()
	if err := w.Flush(); err != nil || b.Len() > 0 {
		t.Errorf("a second flush wrote %q, error %v", b.String(), err)
	}
}

// TestNoValueIsLost: CloudWatch reads a hundred values of a metric in a line and no more.
func TestNoValueIsLost(t *testing.T) {
	var b bytes.Buffer
	w := emf.New(&b, "prod", at)
	for n := range 250 {
		w.Observe(metric.ProviderLatency, metric.Point{Integration: "askfred"}, float64(n))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	next := 0.0
	for _, line := range lines(t, &b) {
		values := line["ProviderLatency"].([]any)
		if len(values) > 100 {
			t.Errorf("a line with %d values", len(values))
		}
		for _, v := range values {
			if v != next {
				t.Fatalf("value %v, want %v", v, next)
			}
			next++
		}
	}
	if next != 250 {
		t.Errorf("%v values of 250", next)
	}
}

// TestSpecsAreWhatCloudWatchTakes checks the limits that the specification names.
func TestSpecsAreWhatCloudWatchTakes(t *testing.T) {
	name := regexp.MustCompile(`^[A-Z][A-Za-z]{2,63}$`)
	for _, m := range metric.All() {
		s := m.Spec()
		if !name.MatchString(s.Name) || s.Unit == "" || s.Help == "" {
			t.Errorf("measurement %d: %+v", m, s)
		}
	}
	if n := len(metric.All()); n > 100 {
		t.Errorf("%d metrics in a line, at most 100", n)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("the pipe is closed") }

func TestAFailedWriteIsTold(t *testing.T) {
	w := emf.New(broken{}, "prod", at)
	w.Observe(metric.Owed, metric.Point{Integration: "askfred"}, 1)
	if err := w.Flush(); err == nil {
		t.Error("no error")
	}
}
