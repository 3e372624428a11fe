package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
)

// header returns the signature headers of a delivery.
func header(t testing.TB, p *Profile, d *Delivery, secrets ...string) map[string]string {
	t.Helper()
	h := map[string]string{}
	if err := p.Sign(d, secrets, len(secrets)-1, func(name, value string) { h[name] = value }); err != nil {
		t.Fatal(err)
	}
	return h
}

const convoyBody = `{"event":"charge.success","amount":1000,"currency":"NGN"}`

// The profiles produce the signatures in the documentation or tests of their senders.
func TestProfiles_vectors(t *testing.T) {
	convoy := Delivery{Time: 1700000000, Body: []byte(convoyBody)}
	for _, tt := range []struct {
		profile, secret string
		Delivery
		name, want string
	}{
		// docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
		{"github", "It's a Secret to Everybody", Delivery{Body: []byte("Hello, World!")}, "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		// api.slack.com, "Verifying requests from Slack".
		{"slack", "8f742231b10e8888abcd99yyyzzz85a5", Delivery{Time: 1531420618, Body: []byte("token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c")},
			"X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"},
		// frain-dev/convoy, pkg/signature/testdata/signature-vectors.json.
		{"convoy", "convoy-webhook-secret", convoy, "X-Convoy-Signature", "244449b7f48cbc2709060c9dcdc2b3aa47a78f540430579015c579fb12defbb4"},
		{"convoy_advanced", "convoy-webhook-secret", convoy, "X-Convoy-Signature", "t=1700000000,v1=77b8b9269f25a199846a55a2bd25b3fba151c70fdae60bb1dcd87fbbc943c55c"},
		// hook0/hook0, output-worker, create_signature.
		{"hook0", "secret", Delivery{Time: 1636936200, Body: []byte("hello !")}, "X-Hook0-Signature", "t=1636936200,v0=1b3d69df55f1e52f05224ba94a5162abeb17ef52cd7f4948c390f810d6a87e98"},
		// hookdeck/outpost, destwebhook/signature_test.go.
		{"outpost_timestamp", "test-secret", Delivery{Time: 1234567890, Body: []byte(`{"hello":"world"}`)}, "x-outpost-signature", "t=1234567890,v0=7054f74dae9f73e82b56ca73e8f81450097c698eeda0b00bb8728e89796baf2d"},
		// docs.svix.com, "Verifying webhooks manually".
		{"svix", "whsec_plJ3nmyCDGBKInavdOK15jsl", Delivery{ID: "msg_loFOjxBNrRLzqYUf", Time: 1731705121, Body: []byte(`{"event_type":"ping","data":{"success":true}}`)},
			"svix-signature", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="},
	} {
		if got := header(t, Named(tt.profile), &tt.Delivery, tt.secret)[tt.name]; got != tt.want {
			t.Errorf("%s: %s is %q, want %q", tt.profile, tt.name, got, tt.want)
		}
	}
}

// During a secret rotation, a profile has the signature of each secret if receivers read
// several, and otherwise that of one.
func TestProfile_Sign_rotation(t *testing.T) {
	d := &Delivery{ID: "evt_1", Type: "a.b", Time: 7, Body: []byte("{}")}
	for i := range Profiles {
		p := &Profiles[i]
		secrets := []string{"whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3", "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xk"}
		both, newest, oldest := header(t, p, d, secrets...), header(t, p, d, secrets[0]), header(t, p, d, secrets[1])
		name := p.Headers[len(p.Headers)-1].Name
		if p.One() {
			if both[name] != oldest[name] || newest[name] == oldest[name] {
				t.Errorf("%s signs with another secret than the one that was asked for: %s", p.Name, both[name])
			}
			continue
		}
		at := strings.Index(p.Headers[len(p.Headers)-1].Value, "{signatures}")
		prefix := strings.ReplaceAll(p.Headers[len(p.Headers)-1].Value[:at], "{timestamp}", "7")
		if want := newest[name] + p.Join + strings.TrimPrefix(oldest[name], prefix); both[name] != want {
			t.Errorf("%s: %s is %q, want %q", p.Name, name, both[name], want)
		}
	}
}

// The declaration of each profile is valid: its names are unique, and its templates have known
// placeholders only.
func TestProfiles_declared(t *testing.T) {
	seen := map[string]bool{}
	for i := range Profiles {
		p := &Profiles[i]
		if p.Name == "" || p.Label == "" || seen[p.Name] || Named(p.Name) != p || strings.Count(p.Content, "{body}") != 1 || algorithms[p.Algorithm] == nil || encodings[p.Encoding] == nil {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if h := header(t, p, &Delivery{}, "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3"); len(h) != len(p.Headers) {
			t.Errorf("%s sets a header twice: %v", p.Name, h)
		}
	}
	if Named("pigeon") != nil {
		t.Error("there is a profile without a declaration")
	}
}

func TestTemplate(t *testing.T) {
	d := &Delivery{ID: "evt_1", Type: "a.b", Time: 7, Body: []byte(`{"{id}":1}`)}
	mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
	mac.Write([]byte(`evt_1|7|a.b|{"{id}":1}|end`))
	tmpl := Template{Content: "{id}|{timestamp}|{type}|{body}|end", Header: "X-Acme-Signature", Value: "id={id} t={timestamp} type={type} s={signature}"}
	if field, reason := tmpl.Invalid(); field != "" {
		t.Fatal(field, reason)
	}
	want := map[string]string{"X-Acme-Signature": "id=evt_1 t=7 type=a.b s=" + hex.EncodeToString(mac.Sum(nil))}
	if got := header(t, tmpl.Profile(), d, "0123456789abcdef"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The profile of Svix as a template.
	svix := Template{Key: "base64", Encoding: "base64", Content: "{id}.{timestamp}.{body}", Header: "svix-signature", Each: "v1,{signature}", Join: "space", IDHeader: "svix-id", TimestampHeader: "svix-timestamp"}
	if field, reason := svix.Invalid(); field != "" {
		t.Fatal(field, reason)
	}
	secrets := []string{"whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3", "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xk"}
	if got, want := header(t, svix.Profile(), d, secrets...), header(t, Named("svix"), d, secrets...); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// And that of Stripe, with the default separator.
	stripe := Template{Content: "{timestamp}.{body}", Header: "Stripe-Signature", Value: "t={timestamp},{signatures}", Each: "v1={signature}"}
	if got, want := header(t, stripe.Profile(), d, secrets...), header(t, Named("stripe"), d, secrets...); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	named := header(t, Template{Header: "S", TypeHeader: "T", IDHeader: "I"}.Profile(), d, secrets[0])
	if named["T"] != "a.b" || named["I"] != "evt_1" || len(named) != 3 {
		t.Errorf("got %v", named)
	}
	for _, algorithm := range Algorithms { // HMACs (RFC 2104), with the lengths of their hashes
		size := map[string]int{"sha1": 40, "sha256": 64, "sha512": 128}[algorithm]
		if got := header(t, Template{Algorithm: algorithm, Header: "S"}.Profile(), d, "0123456789abcdef")["S"]; len(got) != size {
			t.Errorf("%s: %s", algorithm, got)
		}
	}
	for field, bad := range map[string][]Template{
		"key": {{Key: "hex"}}, "join": {{Join: ","}, {Each: "{signature}", Join: " "}},
		"each":      {{Each: "v1"}, {Each: "{signature}{signature}"}, {Each: "{signature}{id}"}, {Each: "{signature}\n"}, {Each: "{signature}" + strings.Repeat("x", MaxEach)}},
		"id_header": {{Header: "X", IDHeader: "x"}}, "timestamp_header": {{Header: "X", IDHeader: "Y", TimestampHeader: "y"}}, "type_header": {{Header: "X", TypeHeader: "X"}},
		"algorithm": {{Algorithm: "md5"}}, "encoding": {{Encoding: "base32"}},
		"content": {{Content: "{id}"}, {Content: "{body}{body}"}, {Content: "{body}{secret}"}, {Content: "{body}{"}, {Content: "{body}{id"}, {Content: strings.Repeat("x", MaxContent) + "{body}"}},
		"value":   {{Each: "{signature}", Value: "{signature}"}, {Value: "{signatures}"}, {Value: "v1="}, {Value: "{signature}{body}"}, {Value: "{signature}\r\nX: y"}, {Value: " {signature}"}, {Value: "é{signature}"}, {Value: "{signature}" + strings.Repeat("x", MaxValue)}},
	} {
		for _, b := range bad {
			if got, reason := b.Invalid(); got != field || reason == "" {
				t.Errorf("%+v: %s %s, want %s", b, got, reason, field)
			}
		}
	}
}

func TestProfile_Secret(t *testing.T) {
	const key = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for _, tt := range []struct{ profile, given, kept string }{ // kept is empty if the secret is refused
		{"", "whsec_" + key, "whsec_" + key}, {"", key, "whsec_" + key}, {"", "v1,whsec_" + key, "whsec_" + key},
		{"svix", key, "whsec_" + key}, {"svix", "v1,whsec_" + key, "whsec_" + key},
		{"svix", "whsec_plJ3nmyCDGBKInavdOK15jsl", "whsec_plJ3nmyCDGBKInavdOK15jsl"}, {"", "whsec_plJ3nmyCDGBKInavdOK15jsl", ""},
		{"", "v1," + key, ""}, {"", "whsec_", ""}, {"", "", ""}, {"", "whsec_" + key + "\n", ""}, {"", "whsec_AAAA", ""}, {"", "a secret of other kinds", ""}, {"", strings.Repeat("A", 88), ""},
		{"stripe", "whsec_" + key, "whsec_" + key}, {"stripe", "v1,whsec_" + key, "v1,whsec_" + key}, {"stripe", "0123456789abcdef", "0123456789abcdef"}, {"github", "It's a Secret to Everybody", "It's a Secret to Everybody"},
		{"slack", strings.Repeat("é", 256), strings.Repeat("é", 256)}, {"slack", strings.Repeat("é", 257), ""}, {"slack", "0123456789abcde", ""}, {"slack", "0123456789abcde\n", ""}, {"slack", "0123456789abcde\xff", ""},
	} {
		if kept, ok := Named(tt.profile).Secret(tt.given); ok != (tt.kept != "") || ok && kept != tt.kept {
			t.Errorf("%s: %q is kept as %q, %t; want %q", tt.profile, tt.given, kept, ok, tt.kept)
		}
	}
}

// For any template: a valid one signs every delivery, with one header that can be sent.
func FuzzTemplate(f *testing.F) {
	f.Add("sha256", "hex", "{timestamp}.{body}", "t={timestamp},v1={signature}", "", "", "evt_1", []byte("{}"))
	f.Add("sha1", "base64", "{body}", "{signatures}", "{signature}", "space", "", []byte("{body}"))
	f.Add("", "", "{{body}}", "{signature", "{signature}{signatures}", "{", "{id}", []byte(nil))
	f.Fuzz(func(t *testing.T, algorithm, encoding, content, value, each, join, id string, body []byte) {
		tmpl := Template{Algorithm: algorithm, Encoding: encoding, Content: content, Header: "X", Value: value, Each: each, Join: join}
		if field, _ := tmpl.Invalid(); field != "" {
			return
		}
		id = strings.Map(func(r rune) rune { return max(' ', min(r, '~')) }, id) // the characters of ids
		h := header(t, tmpl.Profile(), &Delivery{ID: id, Type: "a.b", Time: 7, Body: body}, "0123456789abcdef")
		if len(h) != 1 || h["X"] == "" || strings.ContainsFunc(h["X"], func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%+v sends %q", tmpl, h)
		}
		other := header(t, tmpl.Profile(), &Delivery{ID: id, Type: "a.b", Time: 7, Body: append(slices.Clone(body), 'x')}, "0123456789abcdef")
		if other["X"] == h["X"] {
			t.Errorf("%+v signs another body alike", tmpl)
		}
	})
}

// For any secret: an accepted one signs, and its stored form is accepted unchanged.
func FuzzSecret(f *testing.F) {
	for _, s := range []string{"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "v1,whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "", "v1,", "0123456789abcdef\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, given string) {
		for _, p := range []*Profile{nil, Named("svix"), Named("stripe")} {
			kept, ok := p.Secret(given)
			if !ok {
				continue
			}
			if again, ok := p.Secret(kept); !ok || again != kept {
				t.Errorf("%q is kept as %q, and that as %q", given, kept, again)
			}
			if p != nil {
				header(t, p, &Delivery{}, kept)
			}
		}
	})
}
