package events_test

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/metric/emf"
)

// shown collects the metrics of our namespace that the template's alarms and dashboard
// look at, each with the names of its dimensions.
func shown(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	take := func(m node) {
		if m.at("Namespace").text() != emf.Namespace {
			return
		}
		var names []string
		for _, d := range m.at("Dimensions").list() {
			names = append(names, d.at("Name").text())
		}
		found[m.at("MetricName").text()] = names
	}
	template(t).at("Resources").each(func(_ string, r node) {
		if r.at("Type").text() != "AWS::CloudWatch::Alarm" {
			return
		}
		take(r.at("Properties"))
		for _, m := range r.at("Properties", "Metrics").list() {
			take(m.at("MetricStat", "Metric"))
		}
	})
	for name, dimensions := range onDashboard(t) {
		found[name] = dimensions
	}
	return found
}

// onDashboard reads the rows of the dashboard, in which "." stands for the word above.
func onDashboard(t *testing.T) map[string][]string {
	t.Helper()
	body := resource(t, "Dashboard").at("DashboardBody").text()
	body = regexp.MustCompile(`\$\{[^}]*\}`).ReplaceAllString(body, "x")
	var board struct {
		Widgets []struct {
			Properties struct {
				Metrics [][]any `json:"metrics"`
			} `json:"properties"`
		} `json:"widgets"`
	}
	if err := json.Unmarshal([]byte(body), &board); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, w := range board.Widgets {
		var above []any
		for _, row := range w.Properties.Metrics {
			if row[0] == "..." {
				continue // the metric above once more
			}
			for n := range row {
				if row[n] == "." {
					row[n] = above[n]
				}
			}
			if above = row; row[0] != emf.Namespace {
				continue
			}
			var names []string
			for n := 2; n+1 < len(row); n += 2 {
				names = append(names, row[n].(string))
			}
			found[row[1].(string)] = names
		}
	}
	return found
}

// TestAlarmsLookAtWhatIsMeasured: an alarm on a metric that nobody writes never rings.
func TestAlarmsLookAtWhatIsMeasured(t *testing.T) {
	measured := map[string]bool{}
	for _, m := range metric.All() {
		if s := m.Spec(); !s.ServeOnly {
			measured[s.Name] = true
		}
	}
	looked := shown(t)
	for name, dimensions := range looked {
		if !measured[name] {
			t.Errorf("the template looks at %s, which nothing measures", name)
		}
		if len(dimensions) != 1 || dimensions[0] != "Deployment" {
			t.Errorf("%s is looked at by %v, and written by Deployment", name, dimensions)
		}
	}
	for name := range measured {
		if looked[name] == nil {
			t.Errorf("%s is measured, and neither an alarm nor the dashboard shows it", name)
		}
	}
}
