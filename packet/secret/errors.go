package secret

import "errors"

// ErrLoose reports a file that others than its owner can read or write, or that somebody else owns.
var ErrLoose = errors.New("secret: file is open to others")

var (
	errNotLocked = errors.New("secret: memory is not locked")
	errSize      = errors.New("secret: a key is 32 bytes")
)
