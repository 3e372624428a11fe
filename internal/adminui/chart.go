package adminui

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
)

// Charts are rendered as SVG on the server: they need no script, and the style sheet sets their
// colours. They contain only numbers and times.

// successRate formats the share of successful attempts.
func successRate(c *delivery.Counts) string {
	all := c.Succeeded + c.Failed
	if all == 0 {
		return "–"
	}
	share := float64(c.Succeeded) / float64(all) * 100
	if share > 99.9 && c.Failed > 0 {
		share = 99.9 // not all of them
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", share), ".0") + " %"
}

// stack draws a bar for each step: successes below, failures above.
func stack(b *strings.Builder, series []delivery.Counts, width, height float64, label func(int) string) {
	most := int64(1)
	for i := range series {
		most = max(most, series[i].Succeeded+series[i].Failed)
	}
	step := width / float64(len(series))
	for i := range series {
		c := &series[i]
		if c.Succeeded+c.Failed == 0 {
			continue
		}
		ok, bad := float64(c.Succeeded)/float64(most)*height, float64(c.Failed)/float64(most)*height
		if c.Failed > 0 {
			bad = max(bad, 1.5) // a single failure among thousands stays visible
		}
		if c.Succeeded > 0 {
			ok = max(ok, 1)
		}
		ok = min(ok, height-bad)
		fmt.Fprintf(b, `<g><title>%s</title>`, label(i))
		fmt.Fprintf(b, `<rect class="ok" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>`, float64(i)*step, height-ok, step*0.8, ok)
		fmt.Fprintf(b, `<rect class="bad" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/></g>`, float64(i)*step, height-ok-bad, step*0.8, bad)
	}
}

// sparkline shows the last day of one endpoint.
func sparkline(c *tally.Day) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" viewBox="0 0 96 22" role="img" aria-label="Attempts by hour, last 24 hours: %d succeeded, %d failed">`, c.Total.Succeeded, c.Total.Failed)
	stack(&b, c.Hours[:], 96, 22, func(i int) string {
		return fmt.Sprintf("%d h ago: %d succeeded, %d failed", len(c.Hours)-1-i, c.Hours[i].Succeeded, c.Hours[i].Failed)
	})
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers only
}

const (
	chartWidth, chartHeight = 720.0, 160.0
)

func stepLabel(o *service.Overview, i int) string {
	return o.Start.Add(time.Duration(i) * o.Span.Step).UTC().Format("02 Jan 15:04")
}

// axis draws the times below a chart.
func axis(b *strings.Builder, o *service.Overview) {
	n := len(o.Series)
	for _, i := range []int{0, n / 4, n / 2, 3 * n / 4, n - 1} {
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case n - 1:
			anchor = "end"
		}
		x := (float64(i) + 0.4) * chartWidth / float64(n)
		if anchor == "start" {
			x = 0
		}
		if anchor == "end" {
			x = chartWidth
		}
		fmt.Fprintf(b, `<text class="axis" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, chartHeight+16, anchor, stepLabel(o, i))
	}
}

// attemptBars shows the attempts of a span.
func attemptBars(o *service.Overview) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="Attempts: %d succeeded, %d failed">`, chartWidth, chartHeight+22, o.Total.Succeeded, o.Total.Failed)
	stack(&b, o.Series, chartWidth, chartHeight, func(i int) string {
		return fmt.Sprintf("%s: %d succeeded, %d failed", stepLabel(o, i), o.Series[i].Succeeded, o.Series[i].Failed)
	})
	axis(&b, o)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and times only
}

// latencyLines draws the median and the 95th percentile of the durations of a span.
func latencyLines(o *service.Overview) template.HTML {
	var b strings.Builder
	p50, p95 := o.Total.Quantile(0.5), o.Total.Quantile(0.95)
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="Latency of attempts: half took up to %s, 95 of 100 up to %s">`,
		chartWidth, chartHeight+22, shortDuration(p50), shortDuration(p95))
	most := time.Millisecond
	for i := range o.Series {
		most = max(most, o.Series[i].Quantile(0.95))
	}
	step := chartWidth / float64(len(o.Series))
	for _, line := range []struct {
		class, name string
		q           float64
	}{{"p95", "p95", 0.95}, {"p50", "p50", 0.5}} {
		for i := range o.Series {
			v := o.Series[i].Quantile(line.q)
			if v == 0 {
				continue
			}
			y := chartHeight - float64(v)/float64(most)*(chartHeight-8)
			fmt.Fprintf(&b, `<g><title>%s: %s %s</title><rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="3"/></g>`,
				stepLabel(o, i), line.name, shortDuration(v), line.class, float64(i)*step, y-1.5, step*0.8)
		}
	}
	axis(&b, o)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and times only
}
