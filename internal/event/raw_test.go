package event

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func paramOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Code == fault.Invalid {
		return f.Param
	}
	return fmt.Sprint(err)
}

// Raw bytes of any value are returned unchanged, and stored beside the object.
func TestParseInput_raw(t *testing.T) {
	for _, body := range []string{"", "<a/>", `{"n":9007199254740993,"n":1,"s":"\ud800"}`, "\x00\xff\xfe", strings.Repeat("é", 1000)} {
		encoded := base64.StdEncoding.EncodeToString([]byte(body))
		for data, want := range map[string]string{
			"":                                      `{"object":{},"raw":{"content_type":"text/xml; charset=\"utf-8\"","base64":"` + encoded + `"}}`,
			`,"data":{"a":1,"object":{"b": "raw"}}`: `{"a":1,"object":{"b":"raw"},"raw":{"content_type":"text/xml; charset=\"utf-8\"","base64":"` + encoded + `"}}`,
		} {
			in, err := ParseInput([]byte(`{"type":"a.b","raw":"` + encoded + `","content_type":"text/xml; charset=\"utf-8\""` + data + `}`))
			if err != nil || string(in.Data) != want {
				t.Fatalf("%q: %v\n%s\nwant %s", body, err, in.Data, want)
			}
			if got, media, ok := RawOf(in.Data); !ok || string(got) != body || media != `text/xml; charset="utf-8"` || in.Raw.Size() != len(body) {
				t.Errorf("%q came out as %q of %q, %t", body, got, media, ok)
			}
		}
	}
	in, err := ParseInput([]byte(`{"type":"a.b","raw":"AAAA"}`))
	if _, media, ok := RawOf(in.Data); err != nil || !ok || media != DefaultContentType {
		t.Errorf("without a content type: %q %v", media, err)
	}
	for request, param := range map[string]string{
		`{"type":"a.b","raw":"AAA"}`:                                    "raw", // no padding
		`{"type":"a.b","raw":"AAB="}`:                                   "raw", // not canonical
		`{"type":"a.b","raw":"AAAA\r\n"}`:                               "raw",
		`{"type":"a.b","raw":"-_-_"}`:                                   "raw",
		`{"type":"a.b","raw":7}`:                                        "raw",
		`{"type":"a.b","raw":"","raw":""}`:                              "raw",
		`{"type":"a.b","raw":"AAAA","content_type":"xml"}`:              "content_type",
		`{"type":"a.b","raw":"AAAA","content_type":"a/b\r\n"}`:          "content_type",
		`{"type":"a.b","raw":"AAAA","content_type":"a/b; c=é"}`:         "content_type",
		`{"type":"a.b","content_type":"a/b"}`:                           "content_type",
		`{"type":"a.b","content_type":"a/b","data":{"object":{}}}`:      "content_type",
		`{"type":"a.b","raw":"AAAA","data":{"object":{},"raw":{}}}`:     "data.raw",
		`{"type":"a.b","raw":"AAAA","data":{"object":{},"r\u0061w":1}}`: "data.raw",
		`{"type":"a.b","raw":"AAAA","data":{}}`:                         "data.object",
		`{"type":"a.b"}`:                                                "data",
	} {
		if _, err := ParseInput([]byte(request)); paramOf(err) != param {
			t.Errorf("%s: %v, want a fault of %s", request, err, param)
		}
	}
	for _, data := range []string{`{"object":{}}`, `{"object":{},"raw":{}}`, `{"object":{},"raw":{"content_type":"a/b","base64":"?"}}`, `{"object":{},"raw":{"content_type":"a","base64":""}}`, `{"object":{},"raw":{"base64":""}}`, `{"object":{"raw":{"content_type":"a/b","base64":""}}}`} {
		if _, _, ok := RawOf([]byte(data)); ok {
			t.Errorf("%s has raw bytes", data)
		}
	}
}
