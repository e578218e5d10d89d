package prom_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/metric/prom"
)

// TestPrometheusReadsIt sends a value of every measurement through Prometheus's own
// parser.
func TestPrometheusReadsIt(t *testing.T) {
	r := prom.New()
	for _, m := range metric.All() {
		p := metric.Point{Integration: "askfred"}
		if m.Spec().ByOutcome {
			p.Outcome = "saved"
		}
		r.Observe(m, p, 7)
	}
	kind, text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("media type %s", kind)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metric.All() {
		s := m.Spec()
		f := families[s.Series]
		if f == nil {
			t.Errorf("no series %s", s.Series)
			continue
		}
		got := f.Metric[0]
		value := map[metric.Kind]float64{
			metric.Counter: got.GetCounter().GetValue(), metric.Gauge: got.GetGauge().GetValue(), metric.Distribution: got.GetHistogram().GetSampleSum(),
		}[s.Kind]
		if value != 7 || f.GetHelp() != s.Help {
			t.Errorf("%s: %v %q", s.Series, value, f.GetHelp())
		}
		labels := map[string]string{}
		for _, l := range got.Label {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["integration"] != "askfred" || s.ByOutcome != (labels["outcome"] == "saved") || len(labels) > 2 {
			t.Errorf("%s: labels %v", s.Series, labels)
		}
	}
	if families["go_goroutines"] == nil || families["process_open_fds"] == nil {
		t.Error("the process's own measurements are missing")
	}
}
