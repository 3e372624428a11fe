package adminui

import (
	"fmt"
	"math"
	"strconv"
)

// rgb is a colour of sRGB; each part is 0 to 1.
type rgb [3]float64

// The backgrounds of the style sheet that accents are read on, in light and dark.
var lightPage, darkCard = parseColour("#eef2f7"), parseColour("#1e2733")

// readable is the least contrast of text (WCAG 2.2, success criterion 1.4.3).
const readable = 4.5

// brandColours returns the custom properties of a brand's colour for light and dark pages: the
// colour itself where it is readable, otherwise the next darker or lighter one that is.
func brandColours(colour string) (light, dark string) {
	c := parseColour(colour)
	return properties(c.readableOn(lightPage, rgb{})), properties(c.readableOn(darkCard, rgb{1, 1, 1}))
}

func properties(accent rgb) string {
	text := rgb{1, 1, 1}
	if accent.contrast(rgb{}) > accent.contrast(text) {
		text = rgb{}
	}
	return fmt.Sprintf("--accent:%s;--on-accent:%s", accent, text)
}

// parseColour reads "#rrggbb", which the portal's session was checked to have.
func parseColour(text string) (c rgb) {
	n, err := strconv.ParseUint(text[1:], 16, 32)
	if err != nil {
		return c
	}
	for i := range c {
		c[i] = float64(n>>(16-8*i)&0xff) / 0xff
	}
	return c
}

func (c rgb) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(math.Round(c[0]*0xff)), int(math.Round(c[1]*0xff)), int(math.Round(c[2]*0xff)))
}

// readableOn returns the colour, moved towards an extreme until it is readable on a background.
func (c rgb) readableOn(background, extreme rgb) rgb {
	const steps = 100
	for i := range steps {
		var moved rgb
		for j := range moved {
			moved[j] = c[j] + (extreme[j]-c[j])*float64(i)/steps
		}
		if moved.contrast(background) >= readable {
			return moved
		}
	}
	return extreme
}

// contrast is the contrast ratio of two colours, 1 to 21 (WCAG 2.2).
func (c rgb) contrast(other rgb) float64 {
	a, b := c.luminance(), other.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// luminance is the relative luminance (WCAG 2.2).
func (c rgb) luminance() float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}
