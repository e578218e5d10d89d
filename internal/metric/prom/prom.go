// Package prom keeps measurements for Prometheus, which fetches them.
package prom

import (
	"bytes"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/evergrant/evergrant/internal/metric"
)

// Registry holds the measurements of one process. It may be used concurrently.
type Registry struct {
	registry *prometheus.Registry
	observe  map[metric.Metric]func(labels []string, v float64)
}

// New makes a Registry with the process's own measurements (memory, descriptors,
// goroutines) beside ours.
func New() *Registry {
	r := &Registry{registry: prometheus.NewRegistry(), observe: map[metric.Metric]func([]string, float64){}}
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, m := range metric.All() {
		r.add(m)
	}
	return r
}

func (r *Registry) add(m metric.Metric) {
	s := m.Spec()
	labels := []string{"integration"}
	if s.ByOutcome {
		labels = append(labels, "outcome")
	}
	switch s.Kind {
	case metric.Counter:
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: s.Series, Help: s.Help}, labels)
		r.registry.MustRegister(v)
		r.observe[m] = func(l []string, x float64) { v.WithLabelValues(l...).Add(x) }
	case metric.Gauge:
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: s.Series, Help: s.Help}, labels)
		r.registry.MustRegister(v)
		r.observe[m] = func(l []string, x float64) { v.WithLabelValues(l...).Set(x) }
	case metric.Distribution:
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: s.Series, Help: s.Help, Buckets: s.Buckets}, labels)
		r.registry.MustRegister(v)
		r.observe[m] = func(l []string, x float64) { v.WithLabelValues(l...).Observe(x) }
	}
}

// Observe takes one value.
func (r *Registry) Observe(m metric.Metric, p metric.Point, v float64) {
	labels := []string{p.Integration}
	if m.Spec().ByOutcome {
		labels = append(labels, p.Outcome)
	}
	r.observe[m](labels, v)
}

// Text is all measurements in Prometheus's text format, with its media type.
func (r *Registry) Text() (kind string, text []byte, err error) {
	families, err := r.registry.Gather()
	if err != nil {
		return "", nil, fmt.Errorf("gather metrics: %w", err)
	}
	var b bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	encode := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := encode.Encode(f); err != nil {
			return "", nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return string(format), b.Bytes(), nil
}
