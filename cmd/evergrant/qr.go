package main

import (
	"strings"

	"rsc.io/qr"
)

// qrQuiet is the light border of a QR code in modules, as ISO/IEC 18004 demands it.
const qrQuiet = 4

// qrLines draws a link as a QR code, two modules to a character, dark ones as ink. A
// link too long for one is drawn as nothing: it stands above in letters.
func qrLines(link string) []string {
	code, err := qr.Encode(link, qr.L)
	if err != nil {
		return nil
	}
	var lines []string
	for y := -qrQuiet; y < code.Size+qrQuiet; y += 2 {
		var line strings.Builder
		for x := -qrQuiet; x < code.Size+qrQuiet; x++ {
			switch above, below := code.Black(x, y), code.Black(x, y+1); {
			case above && below:
				line.WriteRune('█')
			case above:
				line.WriteRune('▀')
			case below:
				line.WriteRune('▄')
			default:
				line.WriteRune(' ')
			}
		}
		lines = append(lines, line.String())
	}
	return lines
}

// sayQR shows the QR code to whoever is watching: black on white, whatever colours the
// terminal has.
func (p *process) sayQR(link string) {
	if !p.terminal {
		return
	}
	for _, line := range qrLines(link) {
		p.sayf("\x1b[30;107m%s\x1b[0m", line)
	}
	p.sayf("")
}
