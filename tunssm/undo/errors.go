package undo

import "errors"

var (
	// ErrTaken: a table that we would make is there, and not on record.
	ErrTaken = errors.New("undo: conflict")
	// ErrNoNftables: there can be no table.
	ErrNoNftables = errors.New("undo: this kernel has no nftables")
)
