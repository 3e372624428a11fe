package e2e

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"
)

// below serves a server under /hooks of a proxy's host, without anything else. The server must
// be started with the proxy's URL, and its own URL is passed to to.
func below(t *testing.T, strips bool, passHost bool) (public string, to chan<- *url.URL, stray func() []string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := make(chan *url.URL, 1)
	inner := sync.OnceValue(func() *url.URL { return <-address })
	var mu sync.Mutex
	var missed []string
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(inner())
		if passHost {
			r.Out.Host = r.In.Host
		}
		r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
		if strips {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/hooks")
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, "/hooks")
			if r.Out.URL.Path == "" {
				r.Out.URL.Path = "/"
			}
		}
	}}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hooks" && !strings.HasPrefix(r.URL.Path, "/hooks/") {
			if r.URL.Path != "/favicon.ico" {
				mu.Lock()
				missed = append(missed, r.Method+" "+r.URL.Path)
				mu.Unlock()
			}
			http.Error(w, "another program", http.StatusTeapot)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = web.Serve(listener) }()
	t.Cleanup(func() { _ = web.Close() })
	return "http://" + listener.Addr().String() + "/hooks", address, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(missed)
	}
}

// crawler follows every link from the given pages.
type crawler struct {
	t      *testing.T
	client *http.Client
	host   string // the host of the pages
	seen   map[string]bool
	forms  map[string]bool // their actions
	pages  int
}

func (c *crawler) visit(addresses ...string) {
	c.t.Helper()
	for len(addresses) > 0 {
		at := addresses[0]
		addresses = addresses[1:]
		if c.seen[at] {
			continue
		}
		c.seen[at] = true
		resp, err := c.client.Get(at)
		if err != nil {
			c.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		if resp.StatusCode >= 400 {
			c.t.Errorf("%s: %d", at, resp.StatusCode)
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			continue
		}
		c.pages++
		addresses = append(addresses, c.read(resp.Request.URL, string(body))...)
	}
}

// read checks all addresses on a page and returns those to visit.
func (c *crawler) read(page *url.URL, body string) (next []string) {
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			switch {
			case a.Key == "content", a.Key == "pattern", a.Key == "value", a.Key == "placeholder", a.Key == "data-confirm", a.Key == "d":
				continue
			case !strings.HasPrefix(a.Val, "/") && !slices.Contains([]string{"href", "src", "action"}, a.Key):
				continue
			}
			to, err := page.Parse(a.Val)
			if err != nil {
				c.t.Errorf("%s: <%s %s=%q>: %v", page, n.Data, a.Key, a.Val, err)
				continue
			}
			if to.Host != c.host {
				continue
			}
			if !strings.HasPrefix(to.Path, "/hooks/") && to.Path != "/hooks" {
				c.t.Errorf("%s: <%s %s=%q> leads out of /hooks", page, n.Data, a.Key, a.Val)
				continue
			}
			to.Fragment = ""
			switch {
			case a.Key == "action" || a.Key == "formaction" || a.Key == "hx-post":
				c.forms[to.Path] = true
			case a.Key != "data-tail": // an endless stream
				next = append(next, to.String())
			}
		}
	}
	return next
}

// A server whose --public-url has a path is completely below it: no link, form, redirect,
// cookie, script or address in a response leads anywhere else, whether or not the proxy in
// front removes the path and passes the host on.
func TestPublicURL_path(t *testing.T) {
	for name, proxy := range map[string]struct{ strips, passesHost bool }{"stripped": {true, false}, "kept": {false, true}} {
		t.Run(name, func(t *testing.T) {
			public, to, stray := below(t, proxy.strips, proxy.passesHost)
			s := serve(t, "", "--public-url", public+"/")
			inner, err := url.Parse(s.base)
			if err != nil {
				t.Fatal(err)
			}
			to <- inner
			home, err := url.Parse(public)
			if err != nil {
				t.Fatal(err)
			}
			password := s.out.await(t, `Password +(\S+)`)[1]
			s.base = public // all following requests go through the proxy

			sink := newServer(t, func(http.ResponseWriter, *http.Request) {})
			e := s.register(sink.URL)
			ev := s.send("payment.succeeded", object{"id": "pay_1"})
			s.settled(ev.text("id"))
			s.must("POST", "/v1/event_types", object{"name": "order.placed", "description": "An order"})
			s.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", object{"since": 1})
			payment := s.must("POST", "/v1/payments", object{"amount": 100, "currency": "usd", "customer": object{"email": "a@b.example", "name": "A"}, "description": "d",
				"payment_method": object{"type": "card", "card": object{"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}}})
			portal := s.must("POST", "/v1/portal_sessions", object{})
			session := s.call("POST", "/v1/stripecli/sessions", "device_name=x", "Content-Type", "application/x-www-form-urlencoded").object
			for what, address := range map[string]string{"portal": portal.text("url"), "receipt": payment.text("receipt_url")} {
				if !strings.HasPrefix(address, public+"/") {
					t.Errorf("the %s is at %q", what, address)
				}
				if resp, err := http.Get(address); err != nil || resp.StatusCode != 200 {
					t.Errorf("the %s at %s: %v, %v", what, address, resp, err)
				} else {
					_ = resp.Body.Close()
				}
			}
			if at := session.text("websocket_url"); !strings.HasSuffix(at, "/hooks/v1/stripecli/connect") {
				t.Errorf("the Stripe CLI is sent to %q", at)
			}
			list := s.must("GET", "/v1/webhooks", nil)
			if list.text("url") != "/hooks/v1/webhooks" {
				t.Errorf("the list is at %q", list.text("url"))
			}
			s.must("GET", list.text("url"), nil) // as Stripe's libraries do: behind a base with the path
			if got := s.call("GET", "/openapi.yaml", nil).body; !strings.Contains(got, "\nservers:\n  - url: /hooks\n") {
				t.Error("the description of the API names another server")
			}
			if code := start(t, []string{"POSTHASTE_SERVER=" + public, "POSTHASTE_API_KEY=" + testKey}, binary, "endpoints", "list").exit(); code != 0 {
				t.Errorf("the command line: exit code %d", code)
			}

			client, _ := s.signIn("admin", password)
			c := &crawler{t: t, client: client, host: home.Host, seen: map[string]bool{}, forms: map[string]bool{}}
			c.visit(public+"/admin", public+"/docs", portal.text("url"))
			if c.pages < 60 || len(c.forms) < 10 {
				t.Errorf("only %d pages and %d forms", c.pages, len(c.forms))
			}
			t.Logf("%d pages, %d addresses, %d forms", c.pages, len(c.seen), len(c.forms))

			b := open(t, public)
			var mu sync.Mutex
			var asked []string
			chromedp.ListenTarget(b.ctx, func(ev any) {
				if e, ok := ev.(*network.EventRequestWillBeSent); ok {
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, e.Request.URL)
				}
			})
			b.do("watch requests", network.Enable())
			b.signIn("admin", password)
			pages := strings.TrimSuffix(strings.TrimPrefix(b.at(), public), "/overview")
			b.visit(pages + "/webhooks/new")
			b.fill(`input[name=url]`, sink.URL)
			b.do("choose all events", chromedp.Click(`[data-all]`))
			b.press(`form.stack button.primary`)
			b.sees("The webhook was created.")
			b.visit(pages + "/events")
			b.do("wait for the tail", chromedp.Poll(`document.querySelector("[data-tail-state]").textContent === "live"`, nil))
			s.send("payment.refunded", object{"id": "pay_2"})
			var link string
			b.do("see the event", chromedp.WaitVisible(`tr.fresh a`), chromedp.Evaluate(`document.querySelector("tr.fresh a").getAttribute("href")`, &link))
			if !strings.HasPrefix(link, "/hooks/") {
				t.Errorf("the live tail leads to %q", link)
			}
			b.visit("/docs/api")
			b.do("see the API", chromedp.WaitVisible(`.opblock`))
			mu.Lock()
			defer mu.Unlock()
			for _, at := range asked {
				if strings.HasPrefix(at, "http") && !strings.HasPrefix(at, public+"/") && at != public && !strings.HasSuffix(at, "/favicon.ico") {
					t.Errorf("the browser asked for %s", at)
				}
			}
			if len(asked) < 20 {
				t.Errorf("the browser asked for %d addresses only", len(asked))
			}
			if missed := stray(); len(missed) > 0 {
				t.Errorf("requests outside the path: %q", missed)
			}
		})
	}
}
