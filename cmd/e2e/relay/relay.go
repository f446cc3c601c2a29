package relay

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Way is a direction through a relay, or both.
type Way string

// The first interface that Start was given is on the left.
const (
	Forward  Way = "forward"  // left to right
	Backward Way = "backward" // right to left
	Both     Way = "both"
)

// Report is the state of one direction.
type Report struct {
	Settings Settings `json:"settings"`
	Counters Counters `json:"counters"`
}

// Status is the state of a relay.
type Status struct {
	Forward  Report `json:"forward"`
	Backward Report `json:"backward"`
}

// Relay is one that runs. Its methods are safe for concurrent use.
type Relay struct {
	ports      [2]*port
	directions [2]*direction // forward, backward
	stop       int           // eventfd
	running    sync.WaitGroup
	done       chan struct{}

	closing sync.Once
	mu      sync.Mutex
	closed  bool  // the descriptors are
	err     error // the first that ended a direction
}

// Start joins two interfaces of the thread's network namespace, both up, with settings that do nothing. The relay stays
// with them wherever it is used from, until Close. Errors are ErrPrivilege, or what the kernel said.
func Start(left, right string, seed uint64) (*Relay, error) {
	a, err := openPort(left)
	if err != nil {
		return nil, err
	}
	b, err := openPort(right)
	if err != nil {
		a.close()
		return nil, err
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		a.close()
		b.close()
		return nil, fmt.Errorf("relay: eventfd: %w", err)
	}
	r := &Relay{ports: [2]*port{a, b}, stop: stop, done: make(chan struct{})}
	began := time.Now()
	for i := range r.directions {
		d := &direction{from: r.ports[i], to: r.ports[1-i], stop: stop, began: began, line: NewLine(seed, uint64(i))}
		d.settings.Store(&Settings{})
		r.directions[i] = d
		r.running.Go(func() { r.ended(d.run()) })
	}
	go func() {
		r.running.Wait()
		close(r.done)
	}()
	return r, nil
}

// ended takes note that a direction has, which ends the other.
func (r *Relay) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.wake()
}

// wake makes stop readable, for good: nobody reads it.
func (r *Relay) wake() { _, _ = unix.Write(r.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// Done is closed when the relay has ended, by Close or because an interface was deleted.
func (r *Relay) Done() <-chan struct{} { return r.done }

// Close ends the relay, drops what is on its way, and returns ErrGone where it had ended by itself.
func (r *Relay) Close() error {
	r.closing.Do(func() {
		r.wake()
		<-r.done
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = true
		for _, p := range r.ports {
			p.missed() // for the last Status
			p.close()
		}
		unix.Close(r.stop)
	})
	return r.err
}

// Set replaces the settings of a way, from the next packet on. The error is ErrSettings.
func (r *Relay) Set(w Way, s Settings) error {
	if err := s.Check(); err != nil {
		return err
	}
	var of []*direction
	switch w {
	case Forward:
		of = r.directions[:1]
	case Backward:
		of = r.directions[1:]
	case Both:
		of = r.directions[:]
	default:
		return fmt.Errorf("%w: no way %q: give forward, backward or both", ErrSettings, w)
	}
	for _, d := range of {
		d.settings.Store(&s)
	}
	return nil
}

// Status gives the settings and counters of both ways.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := func(d *direction) Report {
		missed := d.from.lost.Load()
		if !r.closed {
			missed = d.from.missed()
		}
		return Report{Settings: *d.settings.Load(), Counters: d.count.snapshot(missed)}
	}
	return Status{Forward: report(r.directions[0]), Backward: report(r.directions[1])}
}
