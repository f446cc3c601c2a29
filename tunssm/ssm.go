package tunssm

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// Options are what an SSM is made of.
type Options struct {
	Identity control.Identity // New copies its keys
	Host     Host
	Endpoint netip.AddrPort               // where peers can reach this host from outside; zero for none
	Save     func(control.Identity) error // keeps what has changed, and borrows the keys; nil: it is forgotten at the end
	Software string                       // version, told to the KDC
	Log      *slog.Logger
	Now      func() time.Time // the wall clock; nil: time.Now
	// Random draws a duration from zero to less than below, for what is jittered; it is safe for concurrent use. nil: by
	// chance.
	Random func(below time.Duration) time.Duration
}

// SSM is the security service module of one host.
type SSM struct {
	data *dataPath
	acq  *acquirer
}

// New makes an SSM. It owns o.Host from here on.
func New(o Options) *SSM {
	if o.Save == nil {
		o.Save = func(control.Identity) error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.N[time.Duration]
	}
	d := newDataPath(o.Host, o.Log)
	a := &acquirer{
		dataPath:    d,
		credentials: credentials{name: o.Identity.Name, kdcs: o.Identity.KDCs, keys: newKeyring(o.Identity), save: o.Save},
		whereabouts: whereabouts{endpoint: o.Endpoint}, requests: newRequests(), routing: newRouting(),
		past: past{began: time.Now()}, logLines: newLogLines(),
		boot: control.NewBoot(), software: o.Software, now: o.Now, random: o.Random,
		timers: newTimers(), out: newCarrier(d, o.Host.queues(), 0), holds: newHolds(), turns: newTurns(), denials: denials{},
		peers: map[string]*peer{}, measured: map[netip.AddrPort]measurement{}, orders: orders{},
		revoked: map[control.SessionID]bool{},
	}
	a.report.a = a
	a.eraser = secret.NewEraser(func(d time.Duration, f func()) {
		a.timers.after(d, func() { a.links.tasks.Go(f) }) // the acquirer does not wait for it
	})
	a.pings = pings{a: a, waiting: map[string][]*ping{}, echoes: map[uint32]*ping{}}
	return &SSM{data: d, acq: a}
}

// Run carries packets until ctx ends or the interface or the socket fails. It owns every goroutine: when it returns, the
// sessions and the permanent keys are destroyed, the KDCs told, and the host's parts closed.
func (s *SSM) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var loops sync.WaitGroup
	queues := s.data.host.queues()
	for lane := range queues {
		loops.Go(func() {
			if err := newQueueLoop(s.data, queues, lane).run(ctx); err != nil {
				stop(err)
			}
		})
	}
	s.acq.run(ctx)
	for _, q := range queues {
		q.TUN.Stop()
		q.UDP.Stop()
	}
	loops.Wait()
	for _, q := range queues {
		q.TUN.Close()
		q.UDP.Close()
	}
	s.acq.links.tasks.Wait()
	s.acq.keys.destroy()
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return cause
	}
	return nil
}

func comparePrefix(p, q netip.Prefix) int {
	return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
}
