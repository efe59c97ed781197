package cmd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// didYouMean returns a hint with the word that is most similar to text, with prefix before it, or "" if no word is
// similar.
func didYouMean(text, prefix string, words []string) string {
	if word := nearest(text, words); word != "" {
		return fmt.Sprintf(" (did you mean %s?)", prefix+word)
	}
	return ""
}

// nearest returns the word with the smallest edit distance from text, without regard to case. A word matches if its
// distance is less than its length, and at most 1 or a third of the length of text. If no word matches, nearest returns
// "".
func nearest(text string, words []string) (best string) {
	least := max(1, len(text)/3) + 1
	for _, word := range words {
		n := editDistance(strings.ToLower(text), strings.ToLower(word))
		// A word that begins with text counts as one edit away, unless text is very short.
		if len(text) > 2 && strings.HasPrefix(strings.ToLower(word), strings.ToLower(text)) {
			n = min(n, 1)
		}
		if n < least && n < len(word) {
			best, least = word, n
		}
	}
	return best
}

// editDistance counts the bytes to insert, delete, change, or swap with their neighbour to turn a into b (the optimal
// string alignment distance).
func editDistance(a, b string) int {
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

const colloquialTime = `(?i)^\s*(\d+(?:\.\d*)?|\.\d+)\s*` +
	`(ms|milli(?:second)?s?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hrs?|hours?|d|days?)\s*$`

// suggestTime returns the valid form of a time that a person may write (10 s, 5min, 1 day), or "". Only hints use it,
// because flags do not accept these forms.
func suggestTime(text string) string {
	m := regexp.MustCompile(colloquialTime).FindStringSubmatch(text)
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
