package simulate

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind is a part of a fleet whose tokens are alike.
type Kind struct {
	Name    string
	Share   int   // thousandths of the fleet
	Life    int64 // of an access token, s
	Rotates bool  // each refresh brings another refresh token; the old one dies with the first use of the new pair
}

// String is the kind in a list of them.
func (k Kind) String() string {
	rotates := "one refresh token"
	if k.Rotates {
		rotates = "rotating"
	}
	return fmt.Sprintf("%.4g %% %s, %s", float64(k.Share)/10, k.Name, rotates)
}

// Distribution counts seconds.
type Distribution struct {
	counts []int64
	total  int64
}

// Add counts one value, in whole seconds; a negative one is 0.
func (d *Distribution) Add(seconds int64) {
	seconds = max(0, seconds)
	if int64(len(d.counts)) <= seconds {
		d.counts = append(d.counts, make([]int64, seconds+1-int64(len(d.counts)))...)
	}
	d.counts[seconds]++
	d.total++
}

// Merge adds what o counted.
func (d *Distribution) Merge(o *Distribution) {
	if len(d.counts) < len(o.counts) {
		d.counts = append(d.counts, make([]int64, len(o.counts)-len(d.counts))...)
	}
	for s, n := range o.counts {
		d.counts[s] += n
	}
	d.total += o.total
}

// Total is how many values were counted.
func (d *Distribution) Total() int64 { return d.total }

// Percentile is the smallest value that a share of the values, in percent, does not
// exceed; 100 is the largest one. Of nothing it is 0.
func (d *Distribution) Percentile(percent float64) int64 {
	var seen int64
	for s, n := range d.counts {
		if seen += n; n > 0 && float64(seen)*100 >= float64(d.total)*percent {
			return int64(s)
		}
	}
	return 0
}

// Max is the largest value.
func (d *Distribution) Max() int64 { return d.Percentile(100) }

// String is the percentiles that the tables show.
func (d *Distribution) String() string {
	return fmt.Sprintf("p50 %d s, p90 %d s, p99 %d s, max %d s", d.Percentile(50), d.Percentile(90), d.Percentile(99), d.Max())
}

// Counts is what happened, as counters that can be added.
type Counts struct {
	Steps     int64 // calls of refresh.Next; of a year, calls of the table
	Requests  int64 // token requests
	Refreshes int64 // answers that were stored
	NotActed  int64 // requests that the provider turned away
	Lost      int64 // requests whose answer was lost
	Reauth    int64 // connections whose user would have to consent again

	Writes           int64 // conditional writes of connections
	WriteUnits       int64 // of them: one a begun kilobyte of the item
	IndexWrites      int64 // rows of indexes put or deleted
	PlainIndexWrites int64 // of them: by refreshes at their slot, which were not put off before
	SystemUnits      int64 // write units of rows that are no connection: cursor, statistics, circuits

	ExpiredRunning int64 // tokens that ran out before they were replaced, but for those of the next line
	ExpiredOutage  int64 // tokens that ran out since their slot or its retry lay in the outage, or before it was caught up
}

func (c *Counts) add(o Counts) {
	c.Steps += o.Steps
	c.Requests += o.Requests
	c.Refreshes += o.Refreshes
	c.NotActed += o.NotActed
	c.Lost += o.Lost
	c.Reauth += o.Reauth
	c.Writes += o.Writes
	c.WriteUnits += o.WriteUnits
	c.IndexWrites += o.IndexWrites
	c.PlainIndexWrites += o.PlainIndexWrites
	c.SystemUnits += o.SystemUnits
	c.ExpiredRunning += o.ExpiredRunning
	c.ExpiredOutage += o.ExpiredOutage
}

// Report is what a simulation found.
type Report struct {
	Name        string
	Connections int
	Span        time.Duration // simulated
	Kinds       []Kind
	Assumptions []string
	Counts
	Outcomes map[string]int64 // refreshes by outcome

	Ticks  int64
	Missed int64 // minutes that had no tick of their own
	// Late is by how much the requests of slots came after the beginning of their
	// minute, in running operation; Catching the same in an outage's wake.
	Late, Catching Distribution
	CaughtUp       time.Duration // from the outage's end to the first tick that was on time
	Peak           int64         // most requests in a second, in running operation
	PeakCatching   int64         // most requests in a second while catching up
	Minutes        []Minute      // the course of the run; empty for a year
	Took           time.Duration // real
}

// Minute is one simulated minute.
type Minute struct {
	Requests int64
	MaxLate  int64 // s
}

// Bar is how late a refresh may begin after the beginning of its minute, s: within the
// minute, and one more.
const Bar = 120

// Check lists what a report shows to be wrong. Nil: the simulation is passed.
func (r *Report) Check() []string {
	var wrong []string
	bad := func(holds bool, format string, args ...any) {
		if holds {
			wrong = append(wrong, r.Name+": "+fmt.Sprintf(format, args...))
		}
	}
	bad(r.Refreshes == 0 || r.Late.Total() == 0, "nothing was refreshed")
	bad(r.Late.Max() >= Bar, "a refresh began %d s after its minute had, the bar is %d s", r.Late.Max(), Bar)
	bad(r.ExpiredRunning > 0, "%d tokens expired although their provider answered", r.ExpiredRunning)
	bad(r.Reauth > 0, "%d connections were lost", r.Reauth)
	bad(r.PlainIndexWrites > 0, "plain refreshes wrote %d index rows", r.PlainIndexWrites)
	bad(r.CaughtUp == 0, "the outage was never caught up")
	return wrong
}

// perRefresh is n a refresh, with two decimals.
func (r *Report) perRefresh(n int64) string {
	if r.Refreshes == 0 {
		return "0"
	}
	return fmt.Sprintf("%.2f", float64(n)/float64(r.Refreshes))
}

// Rows are the report's lines, as pairs of a name and a value.
func (r *Report) Rows() [][2]string {
	kinds := make([]string, 0, len(r.Kinds))
	for _, k := range r.Kinds {
		kinds = append(kinds, k.String())
	}
	return [][2]string{
		{"connections", grouped(int64(r.Connections))},
		{"simulated time", span(r.Span)},
		{"lives", strings.Join(kinds, "; ")},
		{"assumed", strings.Join(r.Assumptions, "; ")},
		{"steps executed", grouped(r.Steps)},
		{"token requests, tokens stored", grouped(r.Requests) + ", " + grouped(r.Refreshes)},
		{"turned away (429), answers lost", grouped(r.NotActed) + ", " + grouped(r.Lost)},
		{"lateness of slots, running", r.Late.String()},
		{"lateness of slots, catching up", r.Catching.String()},
		{"tokens expired, running", grouped(r.ExpiredRunning)},
		{"tokens expired, by the outage", grouped(r.ExpiredOutage)},
		{"connections lost", grouped(r.Reauth)},
		{"ticks, minutes without one", grouped(r.Ticks) + ", " + grouped(r.Missed)},
		{"30-minute outage caught up in", r.CaughtUp.Round(time.Second).String()},
		{"most requests in a second: running, catching up", grouped(r.Peak) + ", " + grouped(r.PeakCatching)},
		{"write units, a refresh", grouped(r.WriteUnits) + ", " + r.perRefresh(r.WriteUnits)},
		{"index writes: of plain refreshes, of retries and imports", grouped(r.PlainIndexWrites) + ", " + grouped(r.IndexWrites-r.PlainIndexWrites)},
		{"write units of cursor and statistics", grouped(r.SystemUnits)},
		{"outcomes", r.outcomes()},
		{"real time", r.Took.Round(time.Second).String()},
	}
}

func (r *Report) outcomes() string {
	list := make([]string, 0, len(r.Outcomes))
	for _, name := range slices.Sorted(maps.Keys(r.Outcomes)) {
		list = append(list, name+" "+grouped(r.Outcomes[name]))
	}
	return strings.Join(list, ", ")
}

// Print writes the reports as Markdown, one table each.
func Print(w io.Writer, reports ...*Report) error {
	for _, r := range reports {
		if _, err := fmt.Fprintf(w, "### %s\n\n| | |\n|---|---|\n", r.Name); err != nil {
			return err
		}
		for _, row := range r.Rows() {
			if _, err := fmt.Fprintf(w, "| %s | %s |\n", row[0], row[1]); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func span(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return fmt.Sprintf("%d h", d/time.Hour)
}

// grouped writes n with a comma between thousands.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
