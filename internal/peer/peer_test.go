package peer

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/signature"
)

const keptSecret = "whsec_b3dub3dub3dub3dub3dub3dub3dub3du"

// summary describes an endpoint in one line, without the reasons.
func summary(e *Endpoint) string {
	if e.Skip != "" {
		return e.ID + " skipped"
	}
	lost, notes := []string{}, []string{}
	for _, l := range e.Lost {
		lost = append(lost, l.Field)
	}
	for _, l := range e.Notes {
		notes = append(notes, l.Field)
	}
	auth := ""
	if e.Basic != nil {
		auth = "basic " + e.Basic.User + ":" + e.Basic.Password
	}
	if e.OAuth != nil {
		auth = fmt.Sprint("oauth ", *e.OAuth)
	}
	return fmt.Sprintf("%s %s %q %v scheme=%s secret=%v headers=%v rate=%g timeout=%d disabled=%v metadata=%v auth=%q lost=%s notes=%s", e.ID, e.URL, e.Description, e.Events,
		e.Scheme, e.Secret, e.Headers, e.Rate, e.Timeout, e.Disabled, e.Metadata, auth, strings.Join(lost, ","), strings.Join(notes, ","))
}

func TestRead_exports(t *testing.T) {
	for from, want := range map[string][]string{
		"svix": {
			`ep_2ndPaymentsMain000000001 https://acme.example/hooks?token=hush "Acme, payments" [payment.succeeded payment-method.added] scheme=svix secret=` + keptSecret + ` headers=map[X-Tenant:acme] rate=25 timeout=0 disabled=true metadata=map[tier:gold] auth="" lost=header X-Api-Key,header Host notes=uid`,
			`ep_2ndChannelled00000000002 https://beta.example/hooks "" [*] scheme=svix secret=whsec_b3dvb3dvb3dvb3dvb3dvb3dvb3dvb3dv headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=channels notes=`,
			`ep_2ndAsymmetric00000000003 https://gamma.example/hooks "" [*] scheme= secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret notes=`,
			`ep_2ndHyphens00000000000004 https://delta.example/hooks "" [a-b] scheme=svix secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret notes=`,
		},
		"outpost": {
			`des_main https://acme.example/outpost "" [order.shipped user.created] scheme=outpost secret=` + keptSecret + ` headers=map[x-api-key:hush] rate=0 timeout=0 disabled=true metadata=map[team:platform] auth="" lost=previous secret notes=`,
			`des_all https://beta.example/outpost "" [*] scheme=outpost secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret,filter,delivery metadata notes=`,
			`des_off https://gamma.example/outpost "" [*] scheme=outpost secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret notes=`,
			`des_queue skipped`,
		},
		"convoy": {
			`01HMAIN https://acme.example/convoy "Acme" [payment.succeeded payment.failed] scheme=convoy_advanced secret=` + keptSecret + ` headers=map[X-Api-Key:hush] rate=0.5 timeout=60 disabled=true metadata=map[owner_id:acme] auth="" lost=old secret,timeout notes=notifications`,
			`01HBASIC https://beta.example/convoy "Beta's" [*] scheme=convoy secret=dLFo3uTSSjKXnpeRbnB8mqrHu headers=map[] rate=0 timeout=10 disabled=true metadata=map[] auth="basic beta:hush" lost=client certificate,content type,filter notes=`,
			`01HOAUTH https://gamma.example/convoy "Gamma" [*] scheme=convoy secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="oauth {https://login.example/token c hush hooks}" lost=secret notes=`,
			`01HASSERT https://delta.example/convoy "Delta" [*] scheme=convoy secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret,authentication notes=`,
			`01HIDLE skipped`,
		},
		"stripe": {
			`we_1Main https://acme.example/stripe "Main" [charge.succeeded charge.failed] scheme=stripe secret=` + keptSecret + ` headers=map[] rate=0 timeout=0 disabled=false metadata=map[team:billing] auth="" lost= notes=api version`,
			`we_1Off https://beta.example/stripe "" [*] scheme=stripe secret= headers=map[] rate=0 timeout=0 disabled=true metadata=map[] auth="" lost=secret notes=`,
		},
	} {
		t.Run(from, func(t *testing.T) {
			f, err := os.Open("testdata/" + from + ".json")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			all, err := Read(from, f)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, len(all))
			for i, e := range all {
				got[i] = summary(e)
				if said := fmt.Sprint(e.Skip, e.Lost); strings.Contains(said, "hush") || strings.Contains(said, "b3du") || strings.Contains(said, "b3dv") {
					t.Errorf("a reason of %s holds a credential: %s", e.ID, said)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// Headers that could end a line of a request, or that belong to the connection or to a
// signature, are not imported; the report contains their names and not their values.
func TestRead_leavesOutHeaders(t *testing.T) {
	all, err := Read("svix", strings.NewReader(`[{"id":"ep_1","url":"https://a.example/","headers":{"headers":{"X-Ok":"1","X-A":"hush\r\nX-Evil: 1","X\r\nX-Evil":"hush",
		"X-B":"hush\u0000","X-C":"hush\n hush","Host":"hush","Content-Length":"7","Transfer-Encoding":"hush","webhook-signature":"hush","Payment-Signature":"hush"}}}]`))
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
	e := all[0]
	if len(e.Headers) != 1 || e.Headers["X-Ok"] != "1" {
		t.Errorf("the headers are %v", e.Headers)
	}
	said := fmt.Sprint(e.Lost)
	for _, name := range []string{"X-A", "X-B", "X-C", "Host", "Content-Length", "Transfer-Encoding", "webhook-signature", "Payment-Signature"} {
		if !strings.Contains(said, "header "+name) {
			t.Errorf("the report does not say that %s stays behind: %s", name, said)
		}
	}
	if strings.Contains(said, "hush") {
		t.Errorf("the report holds a value: %s", said)
	}
}

// A header that the signature scheme sets is not imported either.
func TestRead_leavesOutSignatures(t *testing.T) {
	all, err := Read("outpost", strings.NewReader(`[{"id":"d","type":"webhook","topics":"*","config":{"url":"https://a.example/","custom_headers":{"X-Outpost-Topic":"hush","X-Ok":"1"}},"credentials":{"secret":"0123456789abcdef"}}]`))
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
	if e := all[0]; len(e.Headers) != 1 || e.Headers["X-Ok"] != "1" || !e.Disabled || e.Secret != "0123456789abcdef" {
		t.Errorf("%+v", e)
	}
}

// An invalid export is refused with an error that does not contain the value.
func TestRead_refuses(t *testing.T) {
	for _, tt := range []struct{ from, text, says string }{
		{"kafka", `[]`, "unknown format"},
		{"svix", `[{"id": "a"`, "not JSON"},
		{"svix", `7`, "neither a list nor an object"},
		{"svix", `{"data": null}`, "neither a list nor an object"},
		{"stripe", `[{"id": "a"}, {"id": "b", "secret": 123456}]`, `item 2 of the export: "secret"`},
		{"outpost", `[{"id": "a", "type": "webhook", "config": {"url": 123456}}]`, "item 1"},
	} {
		_, err := Read(tt.from, strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "123456") {
			t.Errorf("%s %s: %v", tt.from, tt.text, err)
		}
	}
	if all, err := Read("svix", strings.NewReader("")); err != nil || len(all) != 0 {
		t.Errorf("nothing: %v %v", all, err)
	}
}

// For any export: the returned endpoints are valid here, with their secrets and headers.
func fuzzRead(f *testing.F, from string) {
	sample, err := os.ReadFile("testdata/" + from + ".json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add([]byte(`[]{}null`))
	f.Add([]byte(`[{"id":1}]`))
	f.Add([]byte(`[null,{"data":{"content":[null]}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Read(from, strings.NewReader(string(text)))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range all {
			if e.Skip != "" {
				continue
			}
			if seen[e.ID] || e.ID == "" || e.URL == "" || len(e.Events) == 0 || len(e.Events) > endpoint.MaxEvents || !(e.Rate >= 0 && e.Rate <= endpoint.MaxRate) || e.Timeout < 0 || e.Timeout > 60 {
				t.Errorf("%+v", e)
			}
			seen[e.ID] = true
			if len(e.Lost) > 0 && !e.Disabled {
				t.Errorf("%+v is enabled without %v", e, e.Lost)
			}
			for _, typ := range e.Events {
				if !event.ValidPattern(typ) {
					t.Errorf("event type %q", typ)
				}
			}
			if kept, ok := signature.Named(e.Scheme).Secret(e.Secret); e.Secret != "" && (!ok || kept != e.Secret) {
				t.Errorf("secret %q of the scheme %q", e.Secret, e.Scheme)
			}
			for name := range maps.Keys(e.Headers) {
				if _, ok := endpoint.HeaderName(name, signatureHeader); !ok || !endpoint.HeaderValue(e.Headers[name]) {
					t.Errorf("header %q", name)
				}
			}
		}
	})
}

func FuzzSvix(f *testing.F)    { fuzzRead(f, "svix") }
func FuzzOutpost(f *testing.F) { fuzzRead(f, "outpost") }
func FuzzConvoy(f *testing.F)  { fuzzRead(f, "convoy") }
func FuzzStripe(f *testing.F)  { fuzzRead(f, "stripe") }
