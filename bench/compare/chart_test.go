package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// A chart is valid XML, names its contents, and draws every value.
func TestCharts(t *testing.T) {
	rates := []result{
		{"one", []kind{onRelay, onSQLite}, map[kind][]cost{onRelay: {{rate: 4000}, {rate: 4400}, {rate: 4200}}, onSQLite: {{rate: 3000}}}},
		{"fanout", []kind{onSQLite, onPostgres}, map[kind][]cost{onSQLite: {{rate: 9000}}, onPostgres: {{rate: 6000}}}},
	}
	grown := line{name: "endpoints"}
	grown.add(100, 210)
	grown.add(10_000, 220)
	for name, tt := range map[string]struct {
		svg   string
		parts []string
	}{
		"bars":  {bars("Rates", rates), []string{">4200<", ">3000<", ">9000<", ">6000<", ">fanout<", string(onPostgres)}},
		"lines": {lines("Growth", []line{grown}, true), []string{"<polyline", ">10 000<", ">endpoints<"}},
		"hours": {lines("Day", []line{{"disk", []float64{1, 2, 3}, []float64{5, 7, 6}}}, false), []string{"<polyline", ">disk<"}},
	} {
		for d := xml.NewDecoder(strings.NewReader(tt.svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, part := range tt.parts {
			if !strings.Contains(tt.svg, part) {
				t.Errorf("%s: no %s in\n%s", name, part, tt.svg)
			}
		}
	}
}
