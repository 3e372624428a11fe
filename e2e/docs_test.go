package e2e

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// The documentation is legible: light and dark, on a desktop and on a phone.
func TestDocs_inABrowser(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	b := open(t, s.base)
	for _, page := range []string{"/docs/", "/docs/reference/configuration", "/docs/explanation/architecture", "/docs/api"} {
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			b.visit(page)
			if page == "/docs/api" {
				b.sees("Register an endpoint")
				b.legible(scheme)
			} else {
				b.accessible(page + ", " + scheme)
			}
		}
		b.do("make it a phone", emulation.SetDeviceMetricsOverride(390, 844, 1, true))
		b.visit(page)
		if page == "/docs/api" {
			b.sees("Register an endpoint")
		}
		var wide int
		if b.eval(`document.documentElement.scrollWidth`, &wide); wide > 390 {
			t.Errorf("%s is %d wide on a phone of 390", page, wide)
		}
		b.do("make it a desk", emulation.SetDeviceMetricsOverride(1280, 900, 1, false))
	}
	// The API page follows the colour scheme of the pages.
	b.scheme("light")
	b.visit("/docs/api")
	b.sees("Register an endpoint")
	b.do("make it dark", chromedp.Click("[data-theme-toggle]"))
	b.legible("dark, by the button")
	for _, said := range b.complaints() {
		t.Errorf("the browser says: %s", said)
	}
}

// legible checks the contrast of swagger-ui's main texts. The rest of its page cannot be
// changed here.
func (b *tab) legible(name string) {
	b.t.Helper()
	var worst struct {
		Ratio float64
		What  string
	}
	const look = `(() => {
		const channels = c => c.match(/[\d.]+/g).map(Number);
		const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
			.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
		const behind = e => {
			for (; e; e = e.parentElement) {
				const c = channels(getComputedStyle(e).backgroundColor);
				if (c.length < 4 || c[3] > .5) return c;
			}
			return [255, 255, 255];
		};
		let worst = {Ratio: 21, What: ""};
		for (const e of document.querySelectorAll("#api .title, #api .info p, #api .info code, #api .opblock-tag, #api .opblock-summary-path, #api .opblock-summary-description, #api .authorize span")) {
			const a = light(channels(getComputedStyle(e).color)), b = light(behind(e));
			const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			if (ratio < worst.Ratio) worst = {Ratio: ratio, What: e.className + " " + e.textContent.slice(0, 60)};
		}
		return worst;
	})()`
	if !holds(func() bool { // a change of colours takes a while
		b.eval(look, &worst)
		return worst.What != "" && worst.Ratio >= 4.5
	}) {
		b.t.Errorf("%s: the contrast of %q is %.1f", name, worst.What, worst.Ratio)
	}
}
