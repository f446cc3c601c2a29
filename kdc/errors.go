package kdc

import "errors"

var (
	// ErrNotFound: no such peer, session or policy revision.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a name, address or subnet is taken, or the revision is not the one in force.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: what was asked for makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrPolicy: the policy document has faults; errors.As finds them, with their places, as policy.Errors.
	ErrPolicy = errors.New("faulty policy")
	// ErrNotServing: the operation needs Serve to be running.
	ErrNotServing = errors.New("the KDC is not serving")
	// ErrDetached: the KDC has been cut off from its store for too long to change anything.
	ErrDetached = errors.New("the KDC is detached from its store")
	// ErrTooMany: others do the same, as many as there may be.
	ErrTooMany = errors.New("too many")
	// ErrExists: the directory already holds a KDC.
	ErrExists = errors.New("already initialised")
	// ErrNotInitialised: the directory holds no KDC.
	ErrNotInitialised = errors.New("not initialised")
	// ErrInUse: another KDC is serving this directory.
	ErrInUse = errors.New("another KDC is serving")
	// ErrStoreKey: the store was made with another store key than the one in the directory.
	ErrStoreKey = errors.New("store.db was made with another store key than store.key: put back the one that belongs to it")

	errServed     = errors.New("the KDC has served already")
	errStoreEnded = errors.New("the store has ended; no decision can be made without it")
	errSealed     = errors.New("a sealed key does not open: the store is damaged, or was made with another store key")
)
