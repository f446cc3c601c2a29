package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
)

// TestDialer: a KDC that was reached by name is reached again when the name does not resolve any more; what fails
// otherwise fails as before.
func TestDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const name = "kdc.example.net:7600"
	at, unresolved, other := l.Addr().String(), error(&net.DNSError{Err: "no such host", Name: "kdc.example.net"}), errors.New("other")
	var dialled []string
	var fault error // of dialling the name
	d := newDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if address == name && fault != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fault}
		}
		return dialTCP(ctx, at)
	})
	for i, try := range []struct{ fault, want error }{
		{unresolved, unresolved}, {nil, nil}, {unresolved, nil}, {unresolved, nil}, {other, other},
	} {
		fault = try.fault
		conn, err := d.Dial(t.Context(), name)
		if !errors.Is(err, try.want) {
			t.Errorf("%d: %v, want %v", i, err, try.want)
		}
		if err == nil {
			conn.Close()
		}
	}
	if want := []string{name, name, name, at, name, at, name}; !slices.Equal(dialled, want) {
		t.Errorf("dialled %q, want %q", dialled, want)
	}
}
