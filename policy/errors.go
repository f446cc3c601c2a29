package policy

import (
	"fmt"
	"strings"
)

// Error is one fault of a document, and where. Lines and columns count from 1, columns in bytes.
type Error struct {
	Line    int
	Column  int
	Message string
}

func (e Error) Error() string { return fmt.Sprintf("policy:%d:%d: %s", e.Line, e.Column, e.Message) }

// Errors are the faults of a document in the order of their places, at most maxErrors of them and never none.
type Errors []Error

// Error gives one line for each fault.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is a remark about a document that is correct but may not say what was meant.
type Warning Error

func (w Warning) String() string { return Error(w).Error() }

const quoteLimit = 64 // bytes of a document's own text that a message repeats

// quote shows text of a document in a message: on one line, printable and short.
func quote(s string) string {
	if len(s) > quoteLimit {
		return fmt.Sprintf("%q...", s[:quoteLimit])
	}
	return fmt.Sprintf("%q", s)
}
