package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
)

// curve is a line in a plot.
type curve struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// Sizes of a plot, in pixels.
const (
	width     = 760
	top       = 50  // for the title
	left      = 70  // for the numbers of a log-log plot
	right     = 170 // for the names of curves
	plotTall  = 340
	barLeft   = 180 // for the names of bars
	barRight  = 110 // for the numbers of bars
	barPitch  = 24
	barTall   = 14
	labelTall = 15
)

// colours is the palette of Okabe and Ito. People with any colour vision can distinguish its colours.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"}

const (
	ownColour   = "#0072b2" // graceful's bars
	otherColour = "#9a9a9a"
	gridColour  = "#dddddd"
)

// begin opens a plot with a title. It paints the background white, because the page around the plot may be dark.
func begin(title string, height int) *bytes.Buffer {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" `, width, height)
	b.WriteString(`font-family="sans-serif" font-size="12">` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	label(&b, 16, 26, "start", title, `font-size="15" font-weight="bold"`)
	return &b
}

func end(b *bytes.Buffer) []byte {
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func label(b *bytes.Buffer, x, y float64, anchor, text, attributes string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n",
		x, y, anchor, attributes, html.EscapeString(text))
}

func line(b *bytes.Buffer, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

// bars draws a bar for each peer, with a whisker from p10 to p90.
func bars(title string, all []summary) []byte {
	longest := 0.0
	for _, s := range all {
		longest = max(longest, s.P90)
	}
	b := begin(title, top+len(all)*barPitch+10)
	x := func(value float64) float64 { return barLeft + value/longest*(width-barLeft-barRight) }
	for i, s := range all {
		y := float64(top + i*barPitch)
		middle, colour := y+barTall/2, otherColour
		if len(s.Peer) > 8 && s.Peer[:8] == "graceful" {
			colour = ownColour
		}
		label(b, barLeft-8, middle+4, "end", s.Peer, "")
		fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n",
			barLeft, y, x(s.Median)-barLeft, barTall, colour)
		line(b, x(s.P10), middle, x(s.P90), middle, "black")
		text := format(s.Median)
		if s.Ratio > 0 {
			text += fmt.Sprintf(" (%s ×)", format(s.Ratio))
		}
		label(b, x(max(s.P90, s.Median))+6, middle+4, "start", text, "")
	}
	return end(b)
}

// lines draws curves with two logarithmic scales.
func lines(title, below string, curves []curve) []byte {
	b := begin(title, top+plotTall+50)
	lowX, highX, lowY, highY := decades(curves)
	x := func(value float64) float64 {
		return left + (math.Log10(value)-lowX)/(highX-lowX)*(width-left-right)
	}
	y := func(value float64) float64 {
		return top + plotTall - (math.Log10(value)-lowY)/(highY-lowY)*plotTall
	}
	for e := lowX; e <= highX; e++ {
		at := math.Pow(10, e)
		line(b, x(at), top, x(at), top+plotTall, gridColour)
		label(b, x(at), top+plotTall+18, "middle", format(at), "")
	}
	for e := lowY; e <= highY; e++ {
		at := math.Pow(10, e)
		line(b, left, y(at), width-right, y(at), gridColour)
		label(b, left-8, y(at)+4, "end", format(at), "")
	}
	label(b, left+(width-left-right)/2, top+plotTall+40, "middle", below, "")
	ends := endLabels(curves, y)
	for i, c := range curves {
		colour := colours[i%len(colours)]
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
		for _, p := range c.points {
			fmt.Fprintf(b, "%.1f,%.1f ", x(p.x), y(p.y))
		}
		b.WriteString("\"/>\n")
		for _, p := range c.points {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(p.x), y(p.y), colour)
		}
		label(b, width-right+10, ends[i]+4, "start", c.name, fmt.Sprintf(`fill="%s"`, colour))
	}
	return end(b)
}

// decades returns the exponents of the powers of ten at both ends of the scales.
func decades(curves []curve) (lowX, highX, lowY, highY float64) {
	lowX, lowY, highX, highY = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, c := range curves {
		for _, p := range c.points {
			lowX, highX = min(lowX, math.Floor(math.Log10(p.x))), max(highX, math.Ceil(math.Log10(p.x)))
			lowY, highY = min(lowY, math.Floor(math.Log10(p.y))), max(highY, math.Ceil(math.Log10(p.y)))
		}
	}
	return lowX, highX, lowY, highY
}

// endLabels returns the y coordinate for the name of each curve. Each name is at the end of its curve. If names would
// overlap, endLabels moves them down.
func endLabels(curves []curve, y func(float64) float64) []float64 {
	at, order := make([]float64, len(curves)), make([]int, len(curves))
	for i, c := range curves {
		at[i], order[i] = y(c.points[len(c.points)-1].y), i
	}
	slices.SortFunc(order, func(i, j int) int { return int(at[i] - at[j]) })
	for n := 1; n < len(order); n++ {
		at[order[n]] = max(at[order[n]], at[order[n-1]]+labelTall)
	}
	return at
}

// format formats a number with three significant digits, or rounded to an integer if the number is 100 or more.
func format(x float64) string {
	if x >= 100 {
		return strconv.FormatFloat(math.Round(x), 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
