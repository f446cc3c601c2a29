package tunssm

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// Options are what an SSM is made of.
type Options struct {
	Identity control.Identity
	Host     Host
	Endpoint netip.AddrPort            // where peers can reach this host from outside; zero for none
	Learn    func(kdcs []string) error // keeps the KDCs' changed addresses; nil: they are forgotten at the end
	Software string                    // version, told to the KDC
	Log      *slog.Logger
}

// SSM is the security service module of one host.
type SSM struct {
	path *dataPath
	acq  *acquirer
}

// New makes an SSM. It owns o.Host from here on.
func New(o Options) *SSM {
	if o.Learn == nil {
		o.Learn = func([]string) error { return nil }
	}
	d := newDataPath(o.Host, o.Log)
	a := &acquirer{
		dataPath: d, identity: o.Identity, boot: control.NewBoot(), learn: o.Learn, software: o.Software,
		out: newOutbound(d), timers: newTimers(), holds: newHolds(), denials: denials{},
		attempts: map[goal]*attempt{}, asking: map[netip.Addr]int{}, steps: newSteps(), pending: map[uint64]*attempt{}, peers: map[string]*peer{}, orders: orders{},
		revoked: map[control.SessionID]bool{}, began: time.Now(),
	}
	a.reach = func() control.Reach {
		addresses := o.Host.Route.Candidates()
		return control.Reach{
			Port: o.Host.UDP.LocalPort(), Fixed: o.Endpoint,
			Addresses: addresses[:min(len(addresses), control.MaxAddresses)],
		}
	}
	a.report.a = a
	a.eraser = secret.NewEraser(func(d time.Duration, f func()) {
		a.timers.after(d, func() { a.links.tasks.Go(f) }) // the acquirer does not wait for it
	})
	a.pings = pings{a: a, waiting: map[string][]*ping{}, echoes: map[uint32]*ping{}}
	return &SSM{path: d, acq: a}
}

// Run carries packets until ctx ends or the interface or the socket fails. It owns every goroutine: when it returns, the
// sessions are destroyed, the KDCs told, and the host's parts closed.
func (s *SSM) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var loops sync.WaitGroup
	loop := func(run func(context.Context) error) {
		loops.Go(func() {
			if err := run(ctx); err != nil {
				stop(err)
			}
		})
	}
	loop(newOutbound(s.path).run)
	loop(newInbound(s.path).run)
	s.acq.run(ctx)
	s.path.host.TUN.Close()
	s.path.host.UDP.Close()
	loops.Wait()
	s.acq.links.tasks.Wait()
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return cause
	}
	return nil
}

// underlay is every underlay address that frames or control messages go to.
func (a *acquirer) underlay() []netip.Addr {
	var list []netip.Addr
	for conn := range a.links.live {
		if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			list = append(list, tcp.AddrPort().Addr().Unmap())
		}
	}
	for _, p := range a.peers {
		if e := p.endpoint.Load(); e != nil {
			list = append(list, e.Addr())
		}
		for _, s := range p.sessions {
			for _, c := range *s.candidates.Load() {
				list = append(list, c.Addr())
			}
		}
	}
	return list
}

func comparePrefix(p, q netip.Prefix) int {
	return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
}
