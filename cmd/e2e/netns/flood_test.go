package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssmnet/packet/control"
)

// What a flood may do to a daemon: memory above what it had when idle, at any time, and bytes of log, all told. When it
// has ended goroutines and descriptors are as many as before.
const (
	floodMemory = 64 << 20
	floodLog    = 1 << 20
)

// Of the sessions that honest peers set up during a flood, each from cold, setUpsInTime of setUps take setUpWithin at most.
const (
	setUps       = 20
	setUpsInTime = 19
)

// setUpWithin is the second that is promised where the figures are quoted, and else, on a machine that may have other things
// to do, as long as a packet waits for its session.
var setUpWithin = time.Duration(times(int(control.HoldTimeout/time.Second), 1)) * time.Second

// daemonUnderFlood is one of ours that somebody floods.
type daemonUnderFlood struct {
	name, dir, socket     string
	pid                   int
	memory, log           int64
	goroutines, files     int
	peak                  atomic.Int64
	anonymous, peakOfAnon atomic.Int64
}

func (h *Host) ssmUnderFlood(t *testing.T) *daemonUnderFlood {
	return newDaemonUnderFlood(t, h.Name+"'s SSM", h.dir, "ssm.sock", h.daemon(t))
}

func (k *KDC) underFlood(t *testing.T) *daemonUnderFlood {
	return newDaemonUnderFlood(t, "the KDC", k.dir, "admin.sock", k.serving.cmd.Process.Pid)
}

// newDaemonUnderFlood notes what the daemon takes when idle.
func newDaemonUnderFlood(t *testing.T, name, dir, socket string, pid int) *daemonUnderFlood {
	t.Helper()
	d := &daemonUnderFlood{name: name, dir: dir, socket: filepath.Join(dir, socket), pid: pid}
	d.goroutines, d.files, d.log = d.countGoroutines(t), descriptors(t, pid), d.logged(t)
	total, anonymous, err := d.resident()
	if err != nil {
		t.Fatal(err)
	}
	d.memory = total
	d.anonymous.Store(anonymous)
	return d
}

// resident is what of the daemon is in memory, and how much of that is no file's (proc_pid_status(5)).
func (d *daemonUnderFlood) resident() (total, anonymous int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", d.pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(words[1], 10, 64)
		switch words[0] {
		case "VmRSS:":
			total = n << 10
		case "RssAnon:":
			anonymous = n << 10
		}
	}
	if total == 0 {
		return 0, 0, errors.New("it is gone")
	}
	return total, anonymous, nil
}

// countGoroutines asks the daemon itself, over a connection of its own each time.
func (d *daemonUnderFlood) countGoroutines(t *testing.T) (n int) {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		},
	}}
	r, err := c.Get("http://daemon/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatalf("%s: %v", d.name, err)
	}
	defer r.Body.Close()
	if _, err := fmt.Fscanf(r.Body, "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("%s: %v", d.name, err)
	}
	return n
}

// logged is how long its logs are, and the audit record.
func (d *daemonUnderFlood) logged(t *testing.T) (n int64) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(d.dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// watch notes the most memory that the daemon takes until ctx ends.
func (d *daemonUnderFlood) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if total, anonymous, err := d.resident(); err == nil {
			d.peak.Store(max(d.peak.Load(), total))
			d.peakOfAnon.Store(max(d.peakOfAnon.Load(), anonymous))
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// recovers checks what the flood has left.
func (d *daemonUnderFlood) recovers(t *testing.T) {
	t.Helper()
	eventually(t, patience, d.name+" is idle again", func() error {
		if n, files := d.countGoroutines(t), descriptors(t, d.pid); n > d.goroutines || files > d.files {
			return fmt.Errorf("%d goroutines, %d descriptors; when idle %d, %d", n, files, d.goroutines, d.files)
		}
		return nil
	})
	after, _, err := d.resident()
	if err != nil {
		t.Fatalf("%s: %v", d.name, err)
	}
	grown := d.logged(t) - d.log
	const mib = 1 << 20
	t.Logf("%s: %.1f MiB idle, %+.1f MiB at most (anonymous %+.1f), %+.1f MiB after; %d goroutines; %.1f KiB logged", d.name,
		float64(d.memory)/mib, float64(d.peak.Load()-d.memory)/mib, float64(d.peakOfAnon.Load()-d.anonymous.Load())/mib,
		float64(after-d.memory)/mib, d.goroutines, float64(grown)/1024)
	if d.peak.Load() > d.memory+floodMemory || after > d.memory+floodMemory ||
		d.peakOfAnon.Load() > d.anonymous.Load()+floodMemory {
		t.Errorf("%s has taken more memory than %d MiB above what it had when idle", d.name, floodMemory/mib)
	}
	if grown > floodLog {
		t.Errorf("%s has written %d bytes of log", d.name, grown)
	}
}

// floodScene is a network in which somebody floods others. h1 and h2 are honest and set up sessions, and between h4 and h2
// there is a flow from before. h3 is the attacker's host, and an honest SSM's too, as behind a NAT.
type floodScene struct {
	*Net
	a, b, c, d *Host
	alone      bool // h3 has no honest SSM
	daemons    []*daemonUnderFlood
}

const floodPort = 7000

func newFloodScene(t *testing.T) *floodScene {
	t.Helper()
	n := newOverlay(t, 4, grant("tag:all", "tag:all", "*"))
	s := &floodScene{Net: n, a: n.Hosts[0], b: n.Hosts[1], c: n.Hosts[2], d: n.Hosts[3]}
	s.begin(t)
	return s
}

// begin has the honest applications running, and notes what idle is.
func (s *floodScene) begin(t *testing.T) {
	t.Helper()
	s.b.echo(t, 4, floodPort)
	s.b.listen(t, 4, floodPort, echoTCP)
	s.ready(t)
	s.daemons = []*daemonUnderFlood{s.KDC.underFlood(t), s.a.ssmUnderFlood(t), s.b.ssmUnderFlood(t)}
}

// ready sets up what the measures need, so that idle is idle.
func (s *floodScene) ready(t *testing.T) {
	t.Helper()
	s.KDC.online(t, s.Hosts...)
	conn := s.a.mustDial(t, "udp", s.b.at(4, floodPort))
	if _, err := coldStart(t, s.a, s.b, conn); err != nil {
		t.Fatal(err)
	}
}

func echoTCP(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 1<<10)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		if _, err := conn.Write(b[:n]); err != nil {
			return
		}
	}
}

// coldStart closes the session of the two, if there is one, and says how long the first datagram of a new one takes, there
// and back.
func coldStart(t *testing.T, a, b *Host, conn net.Conn) (took time.Duration, err error) {
	t.Helper()
	a.TrySSM(t, "session", "close", b.Name)
	return first(conn, fmt.Sprint("first at ", time.Now().UnixNano()))
}

// first sends a datagram until its echo comes, as applications do whose network loses some, and says how long that takes.
// What still comes of earlier ones is passed over.
func first(conn net.Conn, text string) (took time.Duration, err error) {
	const limit, again = 5 * time.Second, 100 * time.Millisecond
	for began := time.Now(); ; {
		if _, err := conn.Write([]byte(text)); err != nil {
			return 0, err
		}
		err := awaits(conn, text, time.Now().Add(again))
		took = time.Since(began)
		if err == nil || took > limit || !errors.Is(err, os.ErrDeadlineExceeded) {
			return took, err
		}
	}
}

// awaits reads datagrams until one says so.
func awaits(conn net.Conn, text string, deadline time.Time) error {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	got := make([]byte, 1500)
	for {
		n, err := conn.Read(got)
		if err != nil || string(got[:n]) == text {
			return err
		}
	}
}

// under runs a flood, which goes on at least until it has done what it is there for and the set-ups are measured, and
// holds it against what honest peers have of their network meanwhile. Flood returns when ctx has ended.
func (s *floodScene) under(t *testing.T, what string, flood func(ctx context.Context, done func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	var all, watchers sync.WaitGroup
	for _, d := range s.daemons {
		watchers.Go(func() { d.watch(watching) })
	}
	flow := s.d.mustDial(t, "tcp", s.b.at(4, floodPort))
	enough := make(chan struct{})
	var worst time.Duration
	var carried int
	all.Go(func() { flood(ctx, sync.OnceFunc(func() { close(enough) })) })
	all.Go(func() { worst, carried = goesOn(ctx, t, flow) })
	s.measureSetUps(t, what)
	if !s.alone {
		s.serves(t, what)
	}
	select {
	case <-enough:
	case <-time.After(3 * longest):
		t.Errorf("%s: it does not come to its end", what)
	}
	cancel()
	all.Wait()
	t.Logf("%s: the flow of before had %d echoes, the slowest after %v", what, carried, worst.Round(time.Millisecond))
	if carried == 0 {
		t.Errorf("%s: the flow of before did not go on", what)
	}
	for _, d := range s.daemons {
		d.recovers(t)
	}
	stopWatching()
	watchers.Wait()
}

// measureSetUps sets up sessions one after the other.
func (s *floodScene) measureSetUps(t *testing.T, what string) {
	t.Helper()
	conn := s.a.mustDial(t, "udp", s.b.at(4, floodPort))
	inTime := 0
	var worst, sum time.Duration
	for range setUps {
		took, err := coldStart(t, s.a, s.b, conn)
		if err == nil && took <= setUpWithin {
			inTime++
		} else {
			t.Logf("%s: a set-up took %v, %v", what, took, err)
		}
		worst, sum = max(worst, took), sum+took
	}
	t.Logf("%s: %d of %d set-ups within %v, mean %v, worst %v", what, inTime, setUps, setUpWithin,
		(sum / setUps).Round(100*time.Microsecond), worst.Round(100*time.Microsecond))
	if inTime < setUpsInTime {
		t.Errorf("%s: %d of %d sessions were set up within %v, want %d", what, inTime, setUps, setUpWithin, setUpsInTime)
	}
}

// goesOn uses a flow until ctx ends, and gives how often it answered and the longest time that an answer took. It must not
// break.
func goesOn(ctx context.Context, t *testing.T, flow net.Conn) (worst time.Duration, carried int) {
	b := make([]byte, 64)
	for ctx.Err() == nil {
		began := time.Now()
		if err := flow.SetDeadline(began.Add(patience)); err != nil {
			t.Error(err)
			return worst, carried
		}
		if _, err := flow.Write(b); err != nil {
			t.Errorf("the flow of before broke: %v", err)
			return worst, carried
		}
		for got := 0; got < len(b); {
			n, err := flow.Read(b[got:])
			if err != nil {
				t.Errorf("the flow of before broke: %v", err)
				return worst, carried
			}
			got += n
		}
		worst, carried = max(worst, time.Since(began)), carried+1
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return worst, carried
}

// paced does something over and over, so often a second, until ctx ends, and says when it has done it so many times.
func paced(ctx context.Context, rate, count int, done func(), do func()) (times int) {
	const tick = 5 * time.Millisecond
	each := time.NewTicker(tick)
	defer each.Stop()
	for began := time.Now(); ctx.Err() == nil; <-each.C {
		for due := int(time.Since(began).Seconds() * float64(rate)); times < due && ctx.Err() == nil; times++ {
			do()
		}
		if times >= count {
			done()
		}
	}
	return times
}

// serves starts the SSM of the attacker's host anew in the midst of a flood: it must be welcomed, and have a session.
func (s *floodScene) serves(t *testing.T, what string) {
	t.Helper()
	s.c.SSM(t, "down")
	began := time.Now()
	if r := s.c.TrySSM(t, "up"); r.Code != 0 {
		t.Errorf("%s: the SSM beside the attacker: %v", what, r)
		return
	}
	welcomed := time.Since(began)
	took, err := first(s.c.mustDial(t, "udp", s.b.at(4, floodPort)), what)
	if err != nil {
		t.Errorf("%s: the SSM beside the attacker has no session: %v", what, err)
	}
	t.Logf("%s: the SSM beside the attacker was up after %v and had its first packet through after %v more", what,
		welcomed.Round(time.Millisecond), took.Round(time.Millisecond))
}
