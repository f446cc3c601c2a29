package secret

import "errors"

// ErrLoose reports a file that others than its owner can read or write, or that somebody else owns.
var ErrLoose = errors.New("secret: file is open to others")

// ErrNotLocked reports that this process may not lock its memory.
var ErrNotLocked = errors.New("secret: memory is not locked")
