package admin

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"ssmnet/kdc"
)

// fake records the last operation with its arguments, and answers what the test laid down.
type fake struct {
	called string
	args   []any
	answer any // of the type that the operation returns
	err    error
}

func (f *fake) note(called string, args ...any) { f.called, f.args = called, args }

// give is the fake's answer, or the zero value where another type was laid down.
func give[T any](f *fake) (answer T) {
	answer, _ = f.answer.(T)
	return answer
}

// said tells the last call in a form that tests compare.
func (f *fake) said() string {
	text := f.called
	for _, a := range f.args {
		if v := reflect.ValueOf(a); v.Kind() == reflect.Pointer && !v.IsNil() {
			a = v.Elem().Interface()
		}
		text += fmt.Sprintf(" %+v", a)
	}
	return text
}

func (f *fake) Status() kdc.Status { f.note("Status"); return give[kdc.Status](f) }

func (f *fake) AddPeer(_ context.Context, n kdc.NewPeer) (kdc.Enrolment, error) {
	f.note("AddPeer", n)
	return give[kdc.Enrolment](f), f.err
}

func (f *fake) Peers() []kdc.PeerInfo { f.note("Peers"); return give[[]kdc.PeerInfo](f) }

func (f *fake) Peer(name string) (kdc.PeerInfo, error) {
	f.note("Peer", name)
	return give[kdc.PeerInfo](f), f.err
}

func (f *fake) ChangePeer(_ context.Context, name string, c kdc.PeerChange) (kdc.PeerInfo, error) {
	f.note("ChangePeer", name, c)
	return give[kdc.PeerInfo](f), f.err
}

func (f *fake) SuspendPeer(_ context.Context, name string) ([]kdc.Receipt, error) {
	f.note("SuspendPeer", name)
	return give[[]kdc.Receipt](f), f.err
}

func (f *fake) ResumePeer(_ context.Context, name string) error {
	f.note("ResumePeer", name)
	return f.err
}

func (f *fake) RemovePeer(_ context.Context, name string) ([]kdc.Receipt, error) {
	f.note("RemovePeer", name)
	return give[[]kdc.Receipt](f), f.err
}

func (f *fake) NewToken(_ context.Context, name string, ttl time.Duration) (kdc.Enrolment, error) {
	f.note("NewToken", name, ttl)
	return give[kdc.Enrolment](f), f.err
}

func (f *fake) RotatePeer(_ context.Context, name string, wait time.Duration) (kdc.Rotations, error) {
	f.note("RotatePeer", name, wait)
	return give[kdc.Rotations](f), f.err
}

func (f *fake) RotateAll(_ context.Context, wait time.Duration) (kdc.Rotations, error) {
	f.note("RotateAll", wait)
	return give[kdc.Rotations](f), f.err
}

func (f *fake) CheckPolicy(_ context.Context, text []byte) (kdc.PolicyReport, error) {
	f.note("CheckPolicy", string(text))
	return give[kdc.PolicyReport](f), f.err
}

func (f *fake) ApplyPolicy(_ context.Context, text []byte, ifRevision *uint64, note string) (kdc.PolicyReport, error) {
	f.note("ApplyPolicy", string(text), ifRevision, note)
	return give[kdc.PolicyReport](f), f.err
}

func (f *fake) Policy(_ context.Context, revision uint64) (kdc.PolicyRevision, error) {
	f.note("Policy", revision)
	return give[kdc.PolicyRevision](f), f.err
}

func (f *fake) Sessions(filter kdc.SessionFilter) []kdc.SessionInfo {
	f.note("Sessions", filter)
	return give[[]kdc.SessionInfo](f)
}

func (f *fake) WatchSessions(_ context.Context, filter kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	f.note("WatchSessions", filter)
	return slices.Values(give[[]kdc.SessionEvent](f)), f.err
}

func (f *fake) RevokeSessions(_ context.Context, filter kdc.SessionFilter, wait time.Duration) ([]kdc.Receipt, error) {
	f.note("RevokeSessions", filter, wait)
	return give[[]kdc.Receipt](f), f.err
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
