package simulate

import (
	"fmt"
	"io"
	"strings"
)

// bucket is how many minutes a point of a figure stands for.
const bucket = 5

// course is a report's minutes in points: mean requests a second, greatest lateness.
func (r *Report) course() (rate, late []float64) {
	for at := 0; at+bucket <= len(r.Minutes); at += bucket {
		var n, most int64
		for _, m := range r.Minutes[at : at+bucket] {
			n, most = n+m.Requests, max(most, m.MaxLate)
		}
		rate, late = append(rate, float64(n)/(bucket*60)), append(late, float64(most))
	}
	return rate, late
}

// CSV writes the course of the reports: one line for five minutes.
func CSV(w io.Writer, reports ...*Report) error {
	var b strings.Builder
	b.WriteString("simulation,minute,requests_per_second,max_lateness_s\n")
	for _, r := range reports {
		rate, late := r.course()
		for k := range rate {
			fmt.Fprintf(&b, "%q,%d,%.1f,%.0f\n", r.Name, k*bucket, rate[k], late[k])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The figure's measures, in pixels.
const (
	plotWidth, plotHeight = 720, 150
	plotLeft, plotTop     = 70, 40
	panelGap              = 70
)

// SVG draws the course of the reports: for each one panel of requests a second and one of
// the greatest lateness.
func SVG(w io.Writer, reports ...*Report) error {
	var b strings.Builder
	height := plotTop + len(reports)*2*(plotHeight+panelGap)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotLeft+plotWidth+30, height)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	top := plotTop
	for _, r := range reports {
		rate, late := r.course()
		panel(&b, top, fmt.Sprintf("%s, %s connections: requests a second", r.Name, grouped(int64(r.Connections))), "#2563a8", rate)
		top += plotHeight + panelGap
		panel(&b, top, fmt.Sprintf("%s: greatest lateness after the slot's minute began, s", r.Name), "#b4541a", late)
		top += plotHeight + panelGap
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// panel draws one line over the hours.
func panel(b *strings.Builder, top int, title, color string, values []float64) {
	if len(values) == 0 {
		return
	}
	most := 1.0
	for _, v := range values {
		most = max(most, v)
	}
	x := func(k int) float64 { return plotLeft + float64(plotWidth*k)/float64(len(values)) }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", plotLeft, top-10, title)
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#444"/>`+"\n", plotLeft, top, top+plotHeight, plotLeft+plotWidth)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%.0f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
		plotLeft-6, top+10, most, plotLeft-6, top+plotHeight)
	hours := len(values) * bucket / 60
	for h := 0; h <= hours; h += max(1, hours/8) {
		at := x(h * 60 / bucket)
		fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle">%d h</text>`+"\n", at, top+plotHeight+18, h)
	}
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, color)
	for k, v := range values {
		fmt.Fprintf(b, "%.1f,%.1f ", x(k), float64(top+plotHeight)-v/most*plotHeight)
	}
	b.WriteString(`"/>` + "\n")
}
