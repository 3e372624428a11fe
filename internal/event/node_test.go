package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestStable_underNode checks the stable form of generated, hostile documents with Node.js:
// JSON.stringify(JSON.parse(b)) === b, with the same meaning.
func TestStable_underNode(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Node.js, which make test-fast does without")
	}
	documents := 120_000
	if underRace { // make test also runs it without the race detector
		documents = 6_000
	}
	const seed = 20261123
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	enc.SetEscapeHTML(false)
	refused := 0
	for made := 0; made < documents; {
		src := g.document()
		out, err := AppendStable(nil, src, "")
		if err != nil {
			refused++
			continue
		}
		if !json.Valid(out) {
			t.Fatalf("%s became %s", src, out)
		}
		if err := enc.Encode(map[string]string{"src": string(src), "out": string(out)}); err != nil {
			t.Fatal(err)
		}
		made++
	}
	cmd := exec.Command("node", "testdata/stable.js")
	cmd.Stdin = &in
	answer, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, answer)
	}
	if want := fmt.Sprintf("checked %d wrong 0", documents); !strings.Contains(string(answer), want) {
		t.Errorf("node says:\n%s", answer)
	}
	t.Logf("seed %d: %d documents checked by Node.js, %d refused", seed, documents, refused)
}

// generator generates JSON texts that are hard to keep stable.
type generator struct{ *rand.Rand }

func (g generator) document() []byte {
	var b bytes.Buffer
	g.value(&b, 0)
	return b.Bytes()
}

func (g generator) space(b *bytes.Buffer) {
	if g.IntN(6) == 0 {
		b.WriteString([]string{" ", "\n", "\t", "  \r\n"}[g.IntN(4)])
	}
}

func (g generator) value(b *bytes.Buffer, depth int) {
	g.space(b)
	defer g.space(b)
	n := g.IntN(10)
	if depth == 0 {
		n = 9
	}
	switch {
	case n < 3 || depth > 5:
		b.WriteString(g.number())
	case n < 6:
		g.str(b)
	case n == 6:
		b.WriteString([]string{"true", "false", "null"}[g.IntN(3)])
	case n == 7:
		b.WriteByte('[')
		for i := range g.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			g.value(b, depth+1)
		}
		b.WriteByte(']')
	default:
		b.WriteByte('{')
		seen := map[string]bool{}
		first := true
		for range g.IntN(7) {
			var name bytes.Buffer
			g.name(&name)
			var plain string
			if json.Unmarshal(name.Bytes(), &plain) != nil || seen[plain] {
				continue
			}
			seen[plain] = true
			if !first {
				b.WriteByte(',')
			}
			first = false
			g.space(b)
			b.Write(name.Bytes())
			g.space(b)
			b.WriteByte(':')
			g.value(b, depth+1)
		}
		b.WriteByte('}')
	}
}

func (g generator) name(b *bytes.Buffer) {
	switch g.IntN(4) {
	case 0:
		fmt.Fprintf(b, `"%d"`, g.IntN(30))
	case 1:
		odd := []string{`"4294967294"`, `"4294967295"`, `"4294967296"`, `"01"`, `"-1"`, `"1.0"`, `"1e3"`, `""`, `"\u0031"`, `"00"`, `"999999999999"`, `"toJSON"`, `"constructor"`, `"length"`, `"__proto"`}
		b.WriteString(odd[g.IntN(len(odd))])
	default:
		g.str(b)
	}
}

func (g generator) str(b *bytes.Buffer) {
	b.WriteByte('"')
	for range g.IntN(12) {
		switch g.IntN(9) {
		case 0:
			b.WriteString([]string{`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`}[g.IntN(8)])
		case 1:
			fmt.Fprintf(b, `\u%04x`, g.IntN(0x80))
		case 2:
			fmt.Fprintf(b, `\u%04X`, g.IntN(0xd800))
		case 3:
			r := 0x10000 + g.IntN(0xfffff)
			fmt.Fprintf(b, `\u%04x\u%04X`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case 4:
			b.WriteRune([]rune{'é', '日', '😀', 0x2028, 0x2029, 0x7f, 0xfeff, 0xfffd, '<', '&'}[g.IntN(10)])
		default:
			b.WriteByte(byte('a' + g.IntN(26)))
		}
	}
	b.WriteByte('"')
}

func (g generator) number() string {
	switch g.IntN(9) {
	case 0:
		return strconv.Itoa(g.IntN(1000))
	case 1:
		return strconv.FormatInt(g.Int64N(1<<54)-1<<53, 10)
	case 2:
		return fmt.Sprintf("%d.%0*d", g.IntN(1000), 1+g.IntN(5), g.IntN(10))
	case 3:
		return fmt.Sprintf("%d%s%d", 1+g.IntN(99), []string{"e", "E", "e+", "E-", "e-"}[g.IntN(5)], g.IntN(25))
	case 4:
		return []string{"-0", "0", "-0.0", "0e5", "1.0", "5e-324", "1.7976931348623157e308", "1e21", "1e20", "0.000001", "1e-7", "123456789.123456789", "1e400", "9007199254740993"}[g.IntN(14)]
	case 5:
		return strconv.FormatFloat(math.Float64frombits(g.Uint64()&^(0x7ff<<52)|uint64(1+g.IntN(2045))<<52), 'g', -1, 64)
	case 6:
		return strconv.FormatFloat(g.Float64(), 'f', 1+g.IntN(17), 64)
	case 7:
		return strconv.FormatFloat(g.NormFloat64()*1e6, 'e', g.IntN(17), 64)
	}
	return "-" + strconv.Itoa(1+g.IntN(100000))
}
