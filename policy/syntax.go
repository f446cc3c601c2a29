package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// tree makes the text, which ends with a newline, a syntax tree; ok is false where there is a fault in it.
func (r *reader) tree(src []byte) (v hujson.Value, ok bool) {
	if at, what := unreadable(src); what != "" {
		r.fault(r.place(at), "%s", what)
		return v, false
	}
	v, err := hujson.Parse(src)
	if err != nil {
		r.faults = append(r.faults, syntaxError(err, r.place(len(src)-1)))
	}
	return v, err == nil
}

// unreadable finds what must not reach the HuJSON parser: text that is not UTF-8, which it would mend in silence, and
// nesting, on which it recurses without bound.
func unreadable(src []byte) (offset int, what string) {
	if !utf8.Valid(src) {
		for offset < len(src) {
			c, n := utf8.DecodeRune(src[offset:])
			if c == utf8.RuneError && n == 1 {
				break
			}
			offset += n
		}
		return offset, "the text is not UTF-8"
	}
	depth := 0
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return i, fmt.Sprintf("lists and objects are nested deeper than %d", maxDepth)
			}
		case '}', ']':
			depth--
		case '"':
			i = skipString(src, i)
		case '/':
			i = skipComment(src, i)
		}
	}
	return 0, ""
}

// skipString gives the offset of the quote that ends the string begun at i, or the end of src.
func skipString(src []byte, i int) int {
	for i++; i < len(src) && src[i] != '"'; i++ {
		if src[i] == '\\' {
			i++
		}
	}
	return i
}

// skipComment gives the offset of the last byte of the comment begun at i; i itself where none begins.
func skipComment(src []byte, i int) int {
	var end []byte
	switch {
	case bytes.HasPrefix(src[i:], []byte("//")):
		end = []byte("\n")
	case bytes.HasPrefix(src[i:], []byte("/*")):
		end = []byte("*/")
	default:
		return i
	}
	if n := bytes.Index(src[i+2:], end); n >= 0 {
		return i + 2 + n + len(end) - 1
	}
	return len(src)
}

// syntaxError takes the place out of an error of hujson.Parse, whose text begins "hujson: line L, column C: ". The last
// byte, which ends the document, is the last place there is.
func syntaxError(err error, end Place) Error {
	e := Error{Line: 1, Column: 1, Message: err.Error()}
	if _, scanErr := fmt.Sscanf(e.Message, "hujson: line %d, column %d:", &e.Line, &e.Column); scanErr == nil {
		e.Message = errors.Unwrap(err).Error()
	}
	if literal, ok := strings.CutPrefix(e.Message, "invalid literal: "); ok {
		e.Message = "malformed value " + quote(literal)
	}
	if what, ok := strings.CutSuffix(e.Message, ": "+io.ErrUnexpectedEOF.Error()); ok {
		e.Message = "the document ends too early, " + what
	}
	if e.Line > end.Line {
		e.Line, e.Column = end.Line, end.Column
	}
	return e
}
