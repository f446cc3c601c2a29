package store

import "errors"

// What callers branch on. All errors about a store in a file come wrapped in one line: path, what, what to do.
var (
	ErrNotFound = errors.New("store: no such key")
	ErrConflict = errors.New("store: changed meanwhile")    // a Condition of Apply does not hold
	ErrInvalid  = errors.New("store: not a valid change")   // Apply was given what no store takes
	ErrClosed   = errors.New("store: closed")               // by Close
	ErrFull     = errors.New("no space left")               // nothing was changed, and the store is usable
	ErrInUse    = errors.New("in use by another process")   // of Open
	ErrForeign  = errors.New("not a store of this program") // of Open
	ErrDamaged  = errors.New("damaged")                     // of Open, or later: then the store stays unusable
)
