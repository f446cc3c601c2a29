package cli

import "fmt"

// nearest offers the one known word that is a slip of the finger away from what was typed, or nothing.
func nearest(typed string, known []string) string {
	best, found := 3, ""
	for _, word := range known {
		if d := distance(typed, word); d < best && d < len(word) {
			best, found = d, word
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", found)
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
