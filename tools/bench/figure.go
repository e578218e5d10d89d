package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// The measures of a figure, in pixels.
const (
	labelWidth = 430
	barWidth   = 320
	rowHeight  = 34
	headHeight = 50
)

// draw writes one figure for each driver whose lines have floors: bench-refresh.svg and so on.
func draw(folder string, lines []line) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var names []string
	groups := map[string][]line{}
	for _, l := range lines {
		name, _, _ := strings.Cut(l.Bench, "/")
		if l.Floor == 0 {
			continue
		}
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], l)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(folder, "bench-"+name+".svg"), []byte(svg(name, groups[name])), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// svg shows each line as two bars, the floor's above in grey. They share a scale where
// their unit is the same.
func svg(name string, lines []line) string {
	most := map[string]float64{}
	for _, l := range lines {
		most[l.Unit] = max(most[l.Unit], l.Value, l.Floor)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		labelWidth+barWidth+170, headHeight+len(lines)*rowHeight+10)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	fmt.Fprintf(&b, `<text x="10" y="22" font-weight="bold">%s: Evergrant (blue) and its floor (grey)</text>`+"\n", html.EscapeString(name))
	for k, l := range lines {
		y := headHeight + k*rowHeight
		label := strings.TrimPrefix(l.Bench, name+"/")
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+14, html.EscapeString(label))
		width := func(v float64) float64 { return max(1, v/most[l.Unit]*barWidth) }
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="10" fill="#9aa3ad"/>`+"\n", labelWidth, y, width(l.Floor))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="12" fill="#2563a8"/>`+"\n", labelWidth, y+11, width(l.Value))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s %s, ratio %s</text>`+"\n",
			labelWidth+max(width(l.Value), width(l.Floor))+6, y+16, number(l.Value), html.EscapeString(l.Unit), number(l.Ratio))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
