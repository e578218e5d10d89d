package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// line is one figure.
type line struct {
	Bench string  `json:"bench"` // driver/what/under which circumstances
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Floor float64 `json:"floor"` // the same, bare; 0: there is none
	Ratio float64 `json:"ratio"` // of value and floor; 0 without a floor
	// Bar is what was to be reached, in words; "" where nothing was promised.
	Bar string `json:"bar,omitempty"`
	Met *bool  `json:"met,omitempty"`
}

// report prints a line at once.
func (b *bench) report(name string, value float64, unit string, floor float64) {
	l := line{Bench: name, Value: round(value), Unit: unit, Floor: round(floor)}
	if floor != 0 {
		l.Ratio = round(value / floor)
	}
	b.lines = append(b.lines, l)
	b.print(l)
}

// judged is report of a figure with a bar: met says whether it is reached.
func (b *bench) judged(name string, value float64, unit string, floor float64, bar string, met bool) {
	l := line{Bench: name, Value: round(value), Unit: unit, Floor: round(floor), Bar: bar, Met: &met}
	if floor != 0 {
		l.Ratio = round(value / floor)
	}
	b.lines = append(b.lines, l)
	b.print(l)
}

func (b *bench) print(l line) {
	e := json.NewEncoder(b.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		fmt.Fprintf(b.out, "FAILED %s: %v\n", l.Bench, err) // a number that is none
	}
}

// round keeps four digits.
func round(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return r
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// markdown is the lines as a table.
func markdown(lines []line, missing []string) string {
	var b strings.Builder
	b.WriteString("| what | value | floor | ratio | bar |\n|---|---|---|---|---|\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s | %s |\n", l.Bench, number(l.Value), l.Unit, unless0(l.Floor), unless0(l.Ratio), l.judgement())
	}
	for _, m := range missing {
		fmt.Fprintf(&b, "\nLeft out: %s\n", m)
	}
	return b.String()
}

func (l line) judgement() string {
	switch {
	case l.Met == nil:
		return ""
	case *l.Met:
		return l.Bar + ": met"
	}
	return l.Bar + ": **missed**"
}

func unless0(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// The marks between which a page's table stands.
const (
	tableBegin = "<!-- bench: written by make bench -->\n"
	tableEnd   = "<!-- /bench -->"
)

// writeTable puts the lines in the place of a page's table.
func writeTable(page, how string, lines []line, missing []string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the table: %q and %q", page, strings.TrimSpace(tableBegin), tableEnd)
	}
	when := "Measured on " + time.Now().UTC().Format("2006-01-02") + ", " + machine() + ", " + how + ".\n\n"
	return os.WriteFile(page, []byte(before+tableBegin+"\n"+when+markdown(lines, missing)+"\n"+tableEnd+after), 0o644)
}
