package cmd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// didYouMean is a hint at the word that was probably meant, with what stands before it, or nothing.
func didYouMean(text, before string, words []string) string {
	if word := nearest(text, words); word != "" {
		return fmt.Sprintf(" (did you mean %s?)", before+word)
	}
	return ""
}

// nearest is the word that the least number of slips makes into text: a third of its letters at the most.
func nearest(text string, words []string) (best string) {
	least := max(1, len(text)/3) + 1
	for _, word := range words {
		n := slips(strings.ToLower(text), strings.ToLower(word))
		// A word that has only been begun is as good as one with a slip.
		if len(text) > 2 && strings.HasPrefix(strings.ToLower(word), strings.ToLower(text)) {
			n = min(n, 1)
		}
		if n < least && n < len(word) {
			best, least = word, n
		}
	}
	return best
}

// slips counts the letters that must be typed, left out, changed or swapped with their neighbour to make a into b.
func slips(a, b string) int {
	before, last := []int{}, make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+1)
			if a[i] == b[j] {
				row[j+1] = last[j]
			} else if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

const spokenTime = `(?i)^\s*(\d+)\s*(ms|milli(?:second)?s?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hrs?|hours?|d|days?)\s*$`

// spoken reads a time as people write it: 10 s, 5min, 1 day. It is a hint at what was meant, and no more.
func spoken(text string) string {
	m := regexp.MustCompile(spokenTime).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	number, unit := m[1], strings.ToLower(m[2])
	switch {
	case unit == "ms", strings.HasPrefix(unit, "milli"):
		return number + "ms"
	case unit[0] != 'd':
		return number + unit[:1]
	}
	days, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%dh", 24*days)
}
