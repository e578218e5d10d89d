package simprovider

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// Sample is a short text that a pattern (RE2) matches whole, the same each time: what
// stands for a variable, or for a value of the provider's, that only has a pattern.
func Sample(pattern string) (string, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("sample: %w", err)
	}
	return sample(re), nil
}

func sample(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		return string(runeOf(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "a"
	case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
		return sample(re.Sub[0])
	case syntax.OpRepeat:
		return strings.Repeat(sample(re.Sub[0]), re.Min)
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			b.WriteString(sample(sub))
		}
		return b.String()
	default:
		return "" // anchors, and what may be left out
	}
}

// runeOf picks one of a class, which is a list of ranges: a letter or a digit where it
// has them.
func runeOf(ranges []rune) rune {
	for _, r := range "a1A" {
		for pair := range slices.Chunk(ranges, 2) {
			if pair[0] <= r && r <= pair[1] {
				return r
			}
		}
	}
	return ranges[0]
}
