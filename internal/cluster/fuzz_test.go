package cluster

import (
	"slices"
	"strings"
	"testing"
)

// Every text from the database's channel is parsed into deliveries that can be encoded again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1.2 3", "zz.zz", ".", "-1.-1", "1.2.3", "9999999999999999999999", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all := parse(text)
		again := all[:0:0]
		for _, m := range messages(wordWork, all) {
			word, rest, _ := strings.Cut(m, " ")
			if word != wordWork {
				t.Fatalf("%q became the message %q", text, m)
			}
			again = append(again, parse(rest)...)
		}
		if !slices.Equal(all, again) {
			t.Errorf("%q is read as %v and told as %v", text, all, again)
		}
	})
}
