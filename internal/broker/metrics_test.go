package broker_test

import (
	"context"
	"net/http"
	"regexp"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// meter adds up what is measured, and keeps the last value of a gauge.
type meter struct {
	mu     sync.Mutex
	values map[metric.Metric]map[metric.Point]float64 // guarded by mu
}

func (m *meter) Observe(what metric.Metric, p metric.Point, v float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[what] == nil {
		m.values[what] = map[metric.Point]float64{}
	}
	if what.Spec().Kind == metric.Gauge {
		m.values[what][p] = 0
	}
	m.values[what][p] += v
}

func (m *meter) at(what metric.Metric, outcome string) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[what][metric.Point{Integration: brokertest.Integration, Outcome: outcome}]
}

func TestWhatIsMeasured(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "grace"})
	m := &meter{values: map[metric.Metric]map[metric.Point]float64{}}
	p := w.Start(func(c *broker.Config) { c.Metrics = m })
	id := w.Connect("alice")

	_, err := p.Token(t.Context(), brokertest.Caller(), id, 60, nil)
	w.Must(err)
	w.ProviderFault(simprovider.Fault{Kind: "lost_answer"})
	w.Must(p.Force(id)) // its answer is lost, and sent for again within the grace
	if got := m.at(metric.AnswersLost, ""); got < 1 {
		t.Errorf("%v answers lost", got)
	}
	if m.at(metric.AnswersRecovered, "") != 1 || m.at(metric.Refreshes, "saved") < 1 {
		t.Errorf("recovered %v, saved %v", m.at(metric.AnswersRecovered, ""), m.at(metric.Refreshes, "saved"))
	}
	if m.at(metric.TokenReads, "ok") != 2 {
		t.Errorf("%v reads", m.at(metric.TokenReads, "ok"))
	}

	w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusUnauthorized, Count: -1})
	_ = p.Force(id)
	_, err = p.Tick(context.Background(), w.Minute())
	w.Must(err)
	if m.at(metric.CircuitsOpen, "") != 1 {
		t.Errorf("%v circuits open", m.at(metric.CircuitsOpen, ""))
	}
}

var _ = mutant("T74", "internal/broker/token.go", `(view TokenView, err error) {
	defer func() { b.measureRead(rec.Integration, err) }()`, `(view TokenView, err error) {
	defer func() { b.measureRead(rec.Owner, err) }()`)

// TestThreat_T74_metrics_name_integrations_and_outcomes_alone: no label may tell whose
// connection it is, or grow with their number.
func TestThreat_T74_metrics_name_integrations_and_outcomes_alone(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "grace"})
	m := &meter{values: map[metric.Metric]map[metric.Point]float64{}}
	p := w.Start(func(c *broker.Config) { c.Metrics = m })
	id := w.Connect("alice")
	w.Must(p.Force(id))
	_, err := p.Token(t.Context(), brokertest.Caller(), id, 60, nil)
	w.Must(err)
	p.TickNow()
	outcome := regexp.MustCompile(`^[a-z_]*$`)
	seen := 0
	for what, points := range m.values {
		for at := range points {
			if seen++; at.Integration != brokertest.Integration || !outcome.MatchString(at.Outcome) {
				t.Errorf("%s is labelled %+v", what.Spec().Name, at)
			}
		}
	}
	if seen < 4 {
		t.Errorf("only %d values", seen)
	}
}
