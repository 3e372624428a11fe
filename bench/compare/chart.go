package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// line is a series of points.
type line struct {
	name   string
	xs, ys []float64
}

func (l *line) add(x, y float64) { l.xs, l.ys = append(l.xs, x), append(l.ys, y) }

// chartAll writes the results as SVG, if requested.
func (b *bench) chartAll() error {
	if b.charts == "" {
		return nil
	}
	if err := os.MkdirAll(b.charts, 0o755); err != nil {
		return err
	}
	if len(b.results) > 0 {
		if err := b.write("rates.svg", bars("Deliveries a second, by scenario (median)", b.results)); err != nil {
			return err
		}
	}
	if len(b.growthLines) > 0 {
		if err := b.write("growth.svg", lines("CPU a delivery, µs, with ever more of …", b.growthLines, true)); err != nil {
			return err
		}
	}
	if len(b.dayLines) > 0 {
		return b.write("day.svg", lines("A day's traffic, by the hour", b.dayLines, false))
	}
	return nil
}

func (b *bench) write(name, svg string) error {
	return os.WriteFile(filepath.Join(b.charts, name), []byte(svg), 0o644)
}

const (
	chartWidth = 760
	labelWidth = 110
)

// colours can be distinguished by colour-blind people, on white and on black.
var colours = []string{"#7f8c8d", "#0072b2", "#d55e00"}

// open begins an SVG with the colour scheme of the reader.
func open(height int, title string) *strings.Builder {
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui, sans-serif" font-size="13">
<title>%s</title>
<style>text{fill:#222}.faint{fill:#777}.axis{stroke:#bbb}@media(prefers-color-scheme:dark){text{fill:#ddd}.faint{fill:#999}.axis{stroke:#555}}</style>
<text x="8" y="20" font-weight="600">%s</text>
`, chartWidth, height, title, title)
	return &w
}

// bars draws the rates of each scenario, with a bar for each kind.
func bars(title string, all []result) string {
	most, count := 0.0, 0
	for _, r := range all {
		for _, k := range r.kinds {
			most = max(most, median(r.rounds[k], rate))
			count++
		}
	}
	const bar, gap = 16, 12
	w := open(64+count*bar+len(all)*gap, title)
	for i, k := range []kind{onRelay, onSQLite, onPostgres} {
		fmt.Fprintf(w, `<rect x="%d" y="32" width="11" height="11" fill="%s"/><text x="%d" y="42">%s</text>`+"\n", labelWidth+i*190, colours[i], labelWidth+16+i*190, k)
	}
	y := 58
	for _, r := range all {
		fmt.Fprintf(w, `<text x="8" y="%d">%s</text>`+"\n", y+12, r.name)
		for _, k := range r.kinds {
			v := median(r.rounds[k], rate)
			length := v / most * (chartWidth - labelWidth - 80)
			fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text class="faint" x="%.1f" y="%d">%.0f</text>`+"\n",
				labelWidth, y, length, bar-3, colours[k.colour()], float64(labelWidth)+length+6, y+12, v)
			y += bar
		}
		y += gap
	}
	return w.String() + "</svg>\n"
}

func (k kind) colour() int {
	switch k {
	case onRelay:
		return 0
	case onSQLite:
		return 1
	}
	return 2
}

// lines draws series over one horizontal axis, which is logarithmic if decades is true; the
// vertical axis begins at zero.
func lines(title string, all []line, decades bool) string {
	const top, height, left, right = 60, 220, 60, 20
	place := func(x float64) float64 { return x }
	if decades {
		place = math.Log10
	}
	least, most, high := math.Inf(1), math.Inf(-1), 0.0
	for _, l := range all {
		for i := range l.xs {
			least, most, high = min(least, place(l.xs[i])), max(most, place(l.xs[i])), max(high, l.ys[i])
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for high/step < 3 {
		step /= 2
	}
	high = math.Ceil(high/step) * step
	atX := func(x float64) float64 {
		return left + (place(x)-least)/max(most-least, 1e-9)*(chartWidth-left-right)
	}
	atY := func(y float64) float64 { return top + height - y/high*height }
	w := open(top+height+36, title)
	for v := 0.0; v <= high+step/2; v += step {
		fmt.Fprintf(w, `<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="faint" x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, chartWidth-right, atY(v), atY(v), left-6, atY(v)+4, v)
	}
	marked := map[float64]bool{}
	for i, l := range all {
		colour := colours[(i+1)%len(colours)]
		var points []string
		for j := range l.xs {
			points = append(points, fmt.Sprintf("%.1f,%.1f", atX(l.xs[j]), atY(l.ys[j])))
			if decades {
				fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", atX(l.xs[j]), atY(l.ys[j]), colour)
			}
			if x := l.xs[j]; !marked[x] && (decades || math.Mod(x, 3) == 0) {
				marked[x] = true
				fmt.Fprintf(w, `<text class="faint" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", atX(x), top+height+18, thousands(x))
			}
		}
		fmt.Fprintf(w, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", colour, strings.Join(points, " "))
		fmt.Fprintf(w, `<rect x="%d" y="32" width="11" height="11" fill="%s"/><text x="%d" y="42">%s</text>`+"\n", left+i*220, colour, left+16+i*220, l.name)
	}
	return w.String() + "</svg>\n"
}

// thousands formats a number with spaces between thousands.
func thousands(x float64) string {
	text := fmt.Sprintf("%.0f", x)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}
