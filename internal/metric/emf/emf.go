// Package emf writes measurements as log lines in CloudWatch's embedded metric format,
// from which CloudWatch makes metrics without a call from the function.
//
// See "Specification: Embedded metric format" in the CloudWatch user guide.
package emf

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/metric"
)

// Namespace is where the metrics stand in CloudWatch.
const Namespace = "Evergrant"

// maxValues is how many values of one metric a line may hold, as the specification says.
const maxValues = 100

// Writer collects measurements until they are flushed. It may be used concurrently.
type Writer struct {
	out        io.Writer
	deployment string
	now        func() time.Time

	mu     sync.Mutex
	values map[series][]float64 // guarded by mu
}

type series struct {
	metric metric.Metric
	point  metric.Point
}

// New makes a Writer for the metrics of one deployment. Lines go to out, which a
// function's log is.
func New(out io.Writer, deployment string, now func() time.Time) *Writer {
	return &Writer{out: out, deployment: deployment, now: now, values: map[series][]float64{}}
}

// Observe takes one value.
func (w *Writer) Observe(m metric.Metric, p metric.Point, v float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := series{m, p}
	if have := w.values[s]; len(have) == 1 {
		switch m.Spec().Kind {
		case metric.Counter:
			have[0] += v
			return
		case metric.Gauge:
			have[0] = v
			return
		case metric.Distribution:
		}
	}
	w.values[s] = append(w.values[s], v)
}

// Flush writes what was collected: a line for each point, and more where a line would
// hold too many values. It is called at the end of each invocation, since what a frozen
// function has not written may never be.
func (w *Writer) Flush() error {
	w.mu.Lock()
	values := w.values
	w.values = map[series][]float64{}
	w.mu.Unlock()
	for len(values) > 0 {
		for _, p := range points(values) {
			line, err := json.Marshal(w.line(p, values))
			if err != nil {
				return err
			}
			if _, err := w.out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
	}
	return nil
}

// points lists the points of values, always in the same order.
func points(values map[series][]float64) []metric.Point {
	seen := map[metric.Point]bool{}
	for s := range values {
		seen[s.point] = true
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b metric.Point) int {
		return cmp.Or(cmp.Compare(a.Integration, b.Integration), cmp.Compare(a.Outcome, b.Outcome))
	})
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []definition
}

type definition struct {
	Name string
	Unit metric.Unit
}

// line makes one line of what values holds of a point, and takes that from values.
func (w *Writer) line(p metric.Point, values map[series][]float64) map[string]any {
	line := map[string]any{"Deployment": w.deployment, "Integration": p.Integration}
	d := directive{Namespace: Namespace, Dimensions: [][]string{{"Deployment"}, {"Deployment", "Integration"}}}
	if p.Outcome != "" {
		line["Outcome"] = p.Outcome
		d.Dimensions[1] = append(d.Dimensions[1], "Outcome")
	}
	for _, m := range metric.All() {
		have, spec := values[series{m, p}], m.Spec()
		if len(have) == 0 {
			continue
		}
		now := have[:min(len(have), maxValues)]
		if line[spec.Name] = now; len(now) == 1 {
			line[spec.Name] = now[0]
		}
		d.Metrics = append(d.Metrics, definition{spec.Name, spec.Unit})
		if values[series{m, p}] = have[len(now):]; len(have) == len(now) {
			delete(values, series{m, p})
		}
	}
	line["_aws"] = map[string]any{"Timestamp": w.now().UnixMilli(), "CloudWatchMetrics": []directive{d}}
	return line
}
