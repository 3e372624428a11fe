package endpoint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Text returns a value as written on forms; it is empty for a default, no value and a secret.
// It is the inverse of [Field.Parse].
func (f *Field) Text(e *Endpoint) string {
	if f.Secret {
		return ""
	}
	switch v := f.Value(e).(type) {
	case string:
		return v
	case []string:
		if f.Options != nil {
			return strings.Join(v, ",")
		}
		return strings.Join(v, ", ")
	case map[string]string:
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "%s: %s\n", k, v[k])
		}
		return strings.TrimSuffix(b.String(), "\n")
	case int:
		if v != 0 {
			return strconv.Itoa(v)
		}
	case float64:
		if v != 0 {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	case time.Duration:
		if v != 0 {
			return strconv.Itoa(int(v / time.Second))
		}
	case []time.Duration:
		switch {
		case v == nil:
			return ""
		case len(v) == 0:
			return "none"
		}
		delays := make([]string, len(v))
		for i, d := range v {
			delays[i] = shortly(d)
		}
		return strings.Join(delays, ", ")
	}
	return ""
}

// shortly returns a duration without its zero units: 1m, not 1m0s.
func shortly(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
}

// Parse reads a value as written on forms. Durations are in seconds, or have a unit; lists are
// separated by commas or white space; an object has one line per key. Errors: fault.Invalid.
func (f *Field) Parse(text string) (any, error) {
	if f.Secret && f.Kind == TextField {
		return text, nil
	}
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	fail := func(format string, args ...any) error {
		return fault.Param(f.Name, "parameter_invalid", format, args...)
	}
	switch f.Kind {
	case ListField:
		return words(text), nil
	case PairsField:
		pairs := map[string]*string{}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if value = strings.TrimSpace(value); !ok || value == "" {
				return nil, fail("Write one key and value per line, such as %s.", f.Example)
			}
			pairs[strings.TrimSpace(name)] = &value
		}
		return pairs, nil
	case IntegerField:
		n, err := strconv.Atoi(orZero(text))
		if err != nil {
			return nil, fail("Enter a whole number.")
		}
		return n, nil
	case NumberField:
		n, err := strconv.ParseFloat(orZero(text), 64)
		if err != nil {
			return nil, fail("Enter a number, such as 10 or 0.5.")
		}
		return n, nil
	case SecondsField:
		d, err := wholeSeconds(orZero(text))
		if err != nil {
			return nil, fail("Enter whole seconds, such as 15.")
		}
		return d, nil
	case DelaysField:
		switch text {
		case "", "default":
			return []time.Duration(nil), nil
		case "none":
			return []time.Duration{}, nil
		}
		var delays []time.Duration
		for _, word := range words(text) {
			d, err := wholeSeconds(word)
			if err != nil {
				return nil, fail("Enter delays such as %s, or none; leave it empty for %s.", f.Example, f.Default)
			}
			delays = append(delays, d)
		}
		return delays, nil
	}
	return text, nil
}

func orZero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' || r == '\r' })
}

// wholeSeconds reads a duration with a unit, or a number of seconds.
func wholeSeconds(text string) (time.Duration, error) {
	if n, err := strconv.Atoi(text); err == nil {
		text = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(text)
	if err == nil && d%time.Second != 0 {
		err = fmt.Errorf("%s is not a whole number of seconds", text)
	}
	return d, err
}

// Usage describes the field with its limits and default, for the help of a flag.
func (f *Field) Usage() string {
	var values []string
	for _, o := range f.Options {
		values = append(values, o.Value)
	}
	switch f.Kind {
	case ChoiceField:
		return f.Help + " (" + strings.Join(values, ", ") + ")"
	case IntegerField, NumberField:
		return fmt.Sprintf("%s (%g to %g; 0: %s)", f.Help, f.Min, f.Max, f.Default)
	case SecondsField:
		return fmt.Sprintf("%s (%gs to %gs; 0: %s)", f.Help, f.Min, f.Max, f.Default)
	}
	return f.Help
}
