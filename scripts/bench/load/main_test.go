package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"testing"
)

// together runs two verbs over loopback: one that listens, and one that talks to it.
func together(t *testing.T, listens, talks []string) (heard, said any) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := c.LocalAddr().(*net.UDPAddr)
	c.Close()
	done := make(chan error, 1)
	go func() {
		var err error
		heard, err = load(append(listens, "--listen", address.String()))
		done <- err
	}()
	entry := fmt.Sprintf("0100007F:%04X", address.Port) // of a socket bound to 127.0.0.1; not by binding it, which is in the way
	for sockets := []byte{}; !bytes.Contains(sockets, []byte(entry)) && len(done) == 0; {
		if sockets, err = os.ReadFile("/proc/net/udp"); err != nil {
			t.Fatal(err)
		}
	}
	said, err = load(append(talks, "--to", address.String()))
	if err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return heard, said
}

func TestFlood(t *testing.T) {
	heard, said := together(t, []string{"sink", "--seconds", "0.3"}, []string{"flood", "--seconds", "0.5"})
	h, s := heard.(counted), said.(counted)
	if h.Datagrams < 1000 || h.Datagrams > s.Datagrams || h.Seconds < 0.3 || s.Seconds < 0.5 {
		t.Errorf("heard %+v of %+v", h, s)
	}
}

// TestRate: an offered rate is not exceeded, and met where it is low.
func TestRate(t *testing.T) {
	_, said := together(t, []string{"sink", "--seconds", "0.1"}, []string{"flood", "--seconds", "0.5", "--rate", "2000"})
	if s := said.(counted); s.Datagrams < 500 || s.Datagrams > 1001 {
		t.Errorf("sent %+v at 2000 a second", s)
	}
}

func TestQUIC(t *testing.T) {
	heard, said := together(t, []string{"acknowledge", "--seconds", "0.3"}, []string{"quic", "--seconds", "0.5"})
	h, s := heard.(counted), said.(counted)
	if h.Bytes < 1<<20 || h.Bytes > s.Bytes || s.Bytes < s.Datagrams*smallest || s.Bytes > s.Datagrams*largest {
		t.Errorf("heard %+v of %+v", h, s)
	}
}

func TestAsk(t *testing.T) {
	heard, said := together(t, []string{"echo"}, []string{"ask", "--count", "100"})
	h, s := heard.(counted), said.(asked)
	if s.Lost > 5 || h.Datagrams < s.Asked-s.Lost || s.Median <= 0 || s.P99 < s.Median {
		t.Errorf("echoed %+v, asked %+v", h, s)
	}
}

func TestRefusals(t *testing.T) {
	for _, args := range [][]string{
		{}, {"x"}, {"sink"}, {"flood"}, {"sink", "--to", "127.0.0.1:1"}, {"flood", "--listen", "127.0.0.1:1"},
		{"flood", "--to", "127.0.0.1:1", "--size", "0"}, {"flood", "--to", "127.0.0.1:1", "--seconds", "NaN"},
		{"flood", "--to", "127.0.0.1:1", "--rate", "-1"}, {"ask", "--to", "127.0.0.1:1", "--count", "0"},
		{"flood", "--to", "127.0.0.1:1", "more"},
	} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			if got, err := load(args); err == nil {
				t.Error(got)
			}
		})
	}
}
