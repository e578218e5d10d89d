package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// What is drawn is the code, module for module, within its border.
func TestQRIsDrawnAsItIs(t *testing.T) {
	link := "https://auth.example.com/authorize/askfred?session=cs_" + strings.Repeat("x", 43)
	code, err := qr.Encode(link, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	lines := qrLines(link)
	if width := len([]rune(lines[0])); width != code.Size+2*qrQuiet || width > 80 {
		t.Errorf("%d characters wide for %d modules", width, code.Size)
	}
	dark := 0
	for row, line := range lines {
		for x, r := range []rune(line) {
			upper, lower := r == '█' || r == '▀', r == '█' || r == '▄'
			y := 2*row - qrQuiet
			if upper != code.Black(x-qrQuiet, y) || lower != code.Black(x-qrQuiet, y+1) {
				t.Fatalf("row %d, column %d is drawn as %c", row, x, r)
			}
			if upper {
				dark++
			}
		}
	}
	if dark == 0 {
		t.Error("nothing is drawn")
	}
	if qrLines(strings.Repeat("x", 10_000)) != nil {
		t.Error("a link too long for a code is drawn")
	}
}
