package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes foreign text fit for a terminal: what would move its cursor, change its
// colours or turn the direction of its text is shown as an escape.
func clean(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for n := range lines {
		lines[n] = clean(lines[n])
	}
	return strings.Join(lines, "\n")
}

// printJSON prints v for programs, indented.
func (p *process) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	p.printf("%s\n", text)
	return nil
}

// progressf shows how far a long work is, in one line that is written over and over. Only
// whoever is watching sees it.
func (p *process) progressf(format string, args ...any) {
	if p.terminal {
		_, _ = fmt.Fprintf(p.stderr, "\r\x1b[K"+format, args...)
	}
}

// progressEnd takes that line away.
func (p *process) progressEnd() { p.progressf("") }

// firstLine is s without what stands below it.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// table prints rows with their columns aligned, the first one the head.
func (p *process) table(rows [][]string) {
	widths := []int{}
	for _, row := range rows {
		for n := range row {
			row[n] = clean(row[n])
			if n == len(widths) {
				widths = append(widths, 0)
			}
			widths[n] = max(widths[n], utf8.RuneCountInString(row[n]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for n, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[n]-utf8.RuneCountInString(cell)+2))
		}
		p.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
}

// facts prints names and values below each other, those without a value left out.
func (p *process) facts(rows [][]string) {
	var shown [][]string
	for _, row := range rows {
		if row[1] != "" {
			shown = append(shown, []string{row[0] + ":", row[1]})
		}
	}
	p.table(shown)
}

// relative is a time as people say it. Nil is a dash.
func relative(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	d := t.Sub(now).Round(time.Second)
	switch {
	case d == 0:
		return "now"
	case d > 0:
		return "in " + span(d)
	default:
		return span(-d) + " ago"
	}
}

// dated is relative with its day before it, for what is far off. Nil is "", which is left out.
func dated(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.DateOnly) + ", " + relative(t, now)
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	}
}

// text is *s, or "" for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func secondsOf(n int64) time.Duration { return time.Duration(n) * time.Second }
