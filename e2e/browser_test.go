package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a tab of a real browser.
type tab struct {
	t    testing.TB
	ctx  context.Context
	base string // base of the addresses for visit

	mu   sync.Mutex
	said []string // its errors: exceptions, refused loads, alerts
}

// chromium starts a browser for the test; make test installs it.
func chromium(t testing.TB) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("Chromium is not installed; make test installs it (package chromium)")
	}
	profile, err := os.MkdirTemp("", "posthaste-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its processes may write until all have ended
		if !holds(func() bool { return os.RemoveAll(profile) == nil }) {
			t.Errorf("%s cannot be removed", profile)
		}
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(profile),
		chromedp.WSURLReadTimeout(patience), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-device-scale-factor", "1"))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancelBrowser := chromedp.NewContext(ctx)
	t.Cleanup(cancelBrowser)
	return ctx
}

// open opens a browser with one tab.
func open(t testing.TB, base string) *tab {
	t.Helper()
	b := &tab{t: t, ctx: chromium(t), base: base}
	chromedp.ListenTarget(b.ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.said = append(b.said, e.ExceptionDetails.Error())
		case *page.EventJavascriptDialogOpening:
			b.said = append(b.said, "dialog: "+e.Message)
			go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(true)) }()
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork {
				b.said = append(b.said, e.Entry.Text)
			}
		}
	})
	if err := chromedp.Run(b.ctx); err != nil { // without a limit: the browser lives as long as this context
		t.Fatalf("start the browser: %v", err)
	}
	b.do("open a tab", log.Enable(), emulation.SetDeviceMetricsOverride(1280, 900, 1, false))
	return b
}

// do runs actions and fails the test if they take too long.
func (b *tab) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := b.try(actions...); err != nil {
		b.t.Fatalf("%s: %v\non %s", what, err, b.look())
	}
}

func (b *tab) try(actions ...chromedp.Action) error {
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.ctx) // the end of this context must not end the tab
	defer cancel()
	go func() { done <- chromedp.Run(ctx, actions...) }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("it takes too long")
	}
}

// look describes the tab's address and page, for a failed test.
func (b *tab) look() string {
	var at, text string
	if err := b.try(chromedp.Location(&at), chromedp.Evaluate(`document.body.innerText.slice(0, 1500)`, &text)); err != nil {
		return err.Error()
	}
	return at + "\n" + text
}

// visit loads a page and returns once it is shown.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.do("visit "+path, chromedp.ActionFunc(func(ctx context.Context) error {
		resp, err := chromedp.RunResponse(ctx, chromedp.Navigate(b.base+path))
		if err == nil && resp.Status >= http.StatusInternalServerError {
			err = fmt.Errorf("answered %d", resp.Status)
		}
		return err
	}), chromedp.WaitReady("main"))
}

// press clicks and waits for the page that is loaded.
func (b *tab) press(selector string) {
	b.t.Helper()
	b.do("press "+selector, chromedp.WaitVisible(selector), chromedp.ActionFunc(func(ctx context.Context) error {
		resp, err := chromedp.RunResponse(ctx, chromedp.Click(selector))
		if err == nil && resp != nil && resp.Status >= http.StatusInternalServerError {
			err = fmt.Errorf("answered %d", resp.Status)
		}
		return err
	}), chromedp.WaitReady("main"))
}

// fill types into a field and replaces its value.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do("fill "+selector, chromedp.WaitVisible(selector), empty(selector), chromedp.SendKeys(selector, text))
}

// empty clears a field.
func empty(selector string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).value = ""`, selector), nil)
}

// choose selects an option by its value.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	b.do("choose "+selector, chromedp.SetValue(selector, value))
}

// sees waits until the page shows a text.
func (b *tab) sees(text string) {
	b.t.Helper()
	b.seesAny(text)
}

// seesAny waits until the page shows one of several texts.
func (b *tab) seesAny(texts ...string) {
	b.t.Helper()
	quoted, err := json.Marshal(texts)
	if err != nil {
		b.t.Fatal(err)
	}
	if !holds(func() bool { // a page that is being left answers with an error
		var there bool
		err := b.try(chromedp.Evaluate(string(quoted)+`.some(text => document.body.innerText.includes(text))`, &there))
		return err == nil && there
	}) {
		b.t.Fatalf("%q does not come up on %s", texts, b.look())
	}
}

// lacks checks that the page's source does not contain a text.
func (b *tab) lacks(text string) {
	b.t.Helper()
	if strings.Contains(b.html(), text) {
		b.t.Errorf("%s holds %q", b.at(), text)
	}
}

func (b *tab) html() (html string) {
	b.t.Helper()
	b.do("read the page", chromedp.OuterHTML("html", &html))
	return html
}

func (b *tab) at() (location string) {
	b.t.Helper()
	b.do("read the location", chromedp.Location(&location))
	return location
}

func (b *tab) text(selector string) (text string) {
	b.t.Helper()
	b.do("read "+selector, chromedp.Text(selector, &text, chromedp.NodeReady))
	return strings.TrimSpace(text)
}

// value returns the value of a field.
func (b *tab) value(selector string) (text string) {
	b.t.Helper()
	b.do("read "+selector, chromedp.Value(selector, &text))
	return text
}

// eval evaluates an expression.
func (b *tab) eval(js string, to any) {
	b.t.Helper()
	b.do("evaluate", chromedp.Evaluate(js, to, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// complaints returns the errors of the tab so far, and clears them.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// accessible checks the page with axe-core, and fails the test for serious findings.
func (b *tab) accessible(name string) {
	b.t.Helper()
	source, err := os.ReadFile(axeFile(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	b.do("load axe", chromedp.Evaluate(string(source), nil))
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML string }
	}
	b.eval(`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).then(r => r.violations)`, &found)
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			var where []string
			for _, n := range v.Nodes {
				where = append(where, n.HTML)
			}
			b.t.Errorf("%s: %s (%s): %s\n%s", name, v.ID, v.Impact, v.Help, strings.Join(where[:min(5, len(where))], "\n"))
		}
	}
}

func axeFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(nodeModules(t), "axe-core", "axe.min.js")
}

// scheme makes the page light or dark, like the system's setting.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do("make it "+name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

// shoot writes a screenshot of the whole page.
func (b *tab) shoot(file string) {
	b.t.Helper()
	var image []byte
	b.do("take a screenshot", chromedp.ActionFunc(func(ctx context.Context) (err error) {
		image, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatWebp).WithQuality(85).WithCaptureBeyondViewport(true).Do(ctx)
		return err
	}))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, image, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// withoutScripts switches scripts off, or on again.
func (b *tab) withoutScripts(off bool) {
	b.t.Helper()
	b.do("switch scripts", emulation.SetScriptExecutionDisabled(off))
}

// signIn signs a user in.
func (b *tab) signIn(name, password string) {
	b.t.Helper()
	b.visit("/admin/sign-in")
	b.signInHere(name, password)
}

// signInHere does so on the sign-in page that is shown.
func (b *tab) signInHere(name, password string) {
	b.t.Helper()
	b.fill("[name=name]", name)
	b.fill("[name=password]", password)
	b.press("form button.primary")
	b.sees("Sign out")
}

// framed evaluates an expression in the only frame of the page, once its document is loaded.
func framed(address, js string, to any) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		if !holds(func() bool {
			tree, err := page.GetFrameTree().Do(ctx)
			if err != nil || len(tree.ChildFrames) != 1 || tree.ChildFrames[0].Frame.URL != address {
				return false
			}
			world, err := page.CreateIsolatedWorld(tree.ChildFrames[0].Frame.ID).Do(ctx)
			if err != nil {
				return false
			}
			ready, _, err := runtime.Evaluate(`document.readyState === "complete"`).WithContextID(world).Do(ctx)
			if err != nil || string(ready.Value) != "true" {
				return false
			}
			got, _, err := runtime.Evaluate(js).WithContextID(world).WithReturnByValue(true).Do(ctx)
			return err == nil && json.Unmarshal(got.Value, to) == nil
		}) {
			return errors.New("the page does not have one frame")
		}
		return nil
	})
}
