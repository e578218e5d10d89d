package config

import (
	"fmt"
	"slices"
)

// suggestion returns "; did you mean x?" for the word nearest to what was written, or
// "" where none is near.
func suggestion(written string, words []string) string {
	slices.Sort(words)
	best, least := "", min(3, len(written)/2)+1
	for _, word := range words {
		if d := distance(written, word); d < least {
			best, least = word, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is how many single bytes must be put in, taken out or replaced to make b
// of a (Levenshtein). Words that differ much in length are not looked at.
func distance(a, b string) int {
	if len(a) > len(b)+3 || len(b) > len(a)+3 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for n := range row {
		row[n] = n
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
