// Package metric provides the measurements that a broker makes of itself, as data: their
// names, units and labels. Where they go is another package's matter: CloudWatch (emf)
// or Prometheus (prom).
//
// A label is an integration's name or an outcome, never an owner, a connection or
// anything of a token: whoever may look at a dashboard may know no more than that.
package metric

// Metric is one measurement.
type Metric int

// The measurements.
const (
	Refreshes            Metric = iota // refreshes for which something was sent, by outcome
	RefreshesNeedsReauth               // those after which the user must consent again
	RefreshLateness                    // s, from the minute at which a refresh was due to its save
	AnswersLost                        // token requests whose answer did not come
	AnswersRecovered                   // refreshes that saved a connection whose answer was lost before
	ProviderLatency                    // ms, of a token request
	TokenReads                         // tokens asked for by callers, by outcome
	CircuitsOpen                       // clients of an integration whose circuit is open now
	Owed                               // slots that a tick could not send and owes to a later one
	Events                             // events that whoever is told of them took, or did not, by outcome
	Webhooks                           // tries to deliver one, by outcome
	metrics
)

// Kind is how the values of a measurement add up.
type Kind int

// The kinds.
const (
	Counter      Kind = iota // values are added up
	Gauge                    // the last value counts
	Distribution             // each value counts
)

// Unit is what a value is counted in, in CloudWatch's word.
type Unit string

// The units.
const (
	Count        Unit = "Count"
	Seconds      Unit = "Seconds"
	Milliseconds Unit = "Milliseconds"
)

// Spec is what is known of a measurement beforehand.
type Spec struct {
	Name   string // in CloudWatch
	Series string // in Prometheus
	Help   string
	Kind   Kind
	Unit   Unit
	// ByOutcome: it is told by integration and outcome, not by integration alone.
	ByOutcome bool
	// ServeOnly: no function on AWS measures it.
	ServeOnly bool
	// Buckets are the upper bounds of a distribution's steps, in Unit.
	Buckets []float64
}

// Point is what a value belongs to.
type Point struct {
	Integration string
	Outcome     string // empty but for measurements that are told by outcome
}

// All lists the measurements.
func All() []Metric {
	all := make([]Metric, metrics)
	for n := range all {
		all[n] = Metric(n)
	}
	return all
}

// Spec describes the measurement.
func (m Metric) Spec() Spec {
	switch m {
	case Refreshes:
		return Spec{Name: "Refreshes", Series: "evergrant_refreshes_total", Help: "Refreshes for which something was sent, by outcome.", Unit: Count, ByOutcome: true}
	case RefreshesNeedsReauth:
		return Spec{Name: "RefreshesNeedsReauth", Series: "evergrant_refreshes_needs_reauth_total", Help: "Refreshes after which the user must consent again.", Unit: Count}
	case RefreshLateness:
		return Spec{
			Name: "RefreshLateness", Series: "evergrant_refresh_lateness_seconds", Help: "Seconds from the minute at which a refresh was due to its save.",
			Kind: Distribution, Unit: Seconds, Buckets: []float64{5, 15, 30, 60, 90, 120, 300, 600, 1800, 3600},
		}
	case AnswersLost:
		return Spec{Name: "AnswersLost", Series: "evergrant_answers_lost_total", Help: "Token requests whose answer did not come.", Unit: Count}
	case AnswersRecovered:
		return Spec{Name: "AnswersRecovered", Series: "evergrant_answers_recovered_total", Help: "Refreshes that saved a connection whose answer was lost before.", Unit: Count}
	case ProviderLatency:
		return Spec{
			Name: "ProviderLatency", Series: "evergrant_provider_latency_milliseconds", Help: "Milliseconds of a token request.",
			Kind: Distribution, Unit: Milliseconds, Buckets: []float64{50, 100, 200, 500, 1000, 2000, 5000, 10000, 15000},
		}
	case TokenReads:
		return Spec{Name: "TokenReads", Series: "evergrant_token_reads_total", Help: "Tokens asked for by callers, by outcome: ok, or the code of the problem.", Unit: Count, ByOutcome: true}
	case CircuitsOpen:
		return Spec{Name: "CircuitsOpen", Series: "evergrant_circuits_open", Help: "Clients of the integration whose circuit is open.", Kind: Gauge, Unit: Count}
	case Owed:
		return Spec{Name: "Owed", Series: "evergrant_owed_total", Help: "Slots that a tick could not send and owes to a later one.", Unit: Count}
	case Events:
		return Spec{
			Name: "Events", Series: "evergrant_events_total", Help: "Events by outcome: taken by the bus or filed for webhooks, or refused and told later.", Unit: Count, ByOutcome: true,
		}
	case Webhooks:
		return Spec{
			Name: "Webhooks", Series: "evergrant_webhooks_total", Help: "Tries to deliver a webhook, by outcome: delivered, failed and tried again, dead.", Unit: Count, ByOutcome: true, ServeOnly: true,
		}
	}
	return Spec{}
}
