package daemon

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestProfiles takes profiles of a busy process over its socket, of which one takes longer than a request may.
func TestProfiles(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	server.ReadTimeout = 100 * time.Millisecond
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	client := Client(socket)
	defer client.CloseIdleConnections()
	get := func(what string) []byte {
		t.Helper()
		r, err := client.Get("http://daemon/debug/pprof/" + what)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", what, r.Status, err)
		}
		return b
	}

	var busy sync.WaitGroup
	var enough atomic.Bool
	busy.Go(func() { burn(&enough) })
	defer func() { enough.Store(true); busy.Wait() }()
	cpu := parseProfile(t, get("profile?seconds=1"))
	if cpu.took < time.Second || cpu.samples == 0 || !slices.ContainsFunc(cpu.names, isBurn) {
		t.Errorf("a profile of %v with %d samples of %q", cpu.took, cpu.samples, cpu.names)
	}
	if heap := parseProfile(t, get("heap")); !slices.Contains(heap.names, "inuse_space") {
		t.Errorf("a profile of the heap with %q", heap.names)
	}
	if trace := get("trace?seconds=0.2"); !bytes.HasPrefix(trace, []byte("go 1.")) {
		t.Errorf("a trace that begins %.16q", trace)
	}
}

// burn keeps a processor busy until it is enough.
func burn(enough *atomic.Bool) {
	for !enough.Load() {
	}
}

func isBurn(name string) bool { return strings.HasSuffix(name, "/daemon.burn") }

// profile is what a test wants of one.
type profile struct {
	names   []string // the string table: functions, files, units
	samples int
	took    time.Duration
}

// Fields of a Profile (github.com/google/pprof/blob/main/proto/profile.proto).
const (
	sampleField   = 2
	stringField   = 6
	durationField = 10 // nanoseconds
)

func parseProfile(t *testing.T, zipped []byte) (p profile) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		size := n
		if n > 0 {
			size += protowire.ConsumeFieldValue(number, kind, b[n:])
		}
		if n < 0 || size < n {
			t.Fatalf("not a profile from %.16x on", b)
		}
		switch value := b[n:size]; number {
		case sampleField:
			p.samples++
		case stringField:
			name, _ := protowire.ConsumeString(value)
			p.names = append(p.names, name)
		case durationField:
			nanos, _ := protowire.ConsumeVarint(value)
			p.took = time.Duration(nanos)
		}
		b = b[size:]
	}
	return p
}
