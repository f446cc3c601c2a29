package kdc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// KDC is one key distribution center. Make it with Open or New, then Serve.
type KDC struct {
	store     store.Store
	ring      keyring
	audit     *audit
	log       *slog.Logger
	now       func() time.Time // the wall clock: for until, token TTLs and what people read; no duration comes of it
	boot      control.Boot
	since     time.Time // as people read it
	began     time.Time // the same on the monotonic clock
	close     func() error
	directory directory // New's, then follow's

	settings atomic.Pointer[Config]
	snapshot atomic.Pointer[snapshot]
	swept    atomic.Uint64 // revision whose snapshot and consequences are out
	contact  contact       // with the store

	// gate makes one message be handled under one snapshot: held for reading by whatever decides, for writing by
	// publish and by leave. Nobody waits for the network under it: Conn.Send never does.
	gate sync.RWMutex

	mu          sync.Mutex // after gate; held for map operations only, on all down to the counts
	exchanges              // in flight
	registry               // of the peers and sessions that are live
	repetition             // of denials
	watchers    map[*watcher]struct{}
	published   chan struct{} // closed, and replaced, when a snapshot and its consequences are out
	outcomes    []outcome     // of the snapshots since the change under way began; nil: none is
	transports  map[net.Conn]struct{}
	listening   []string
	rate        perSecond
	redemptions map[control.KeyID]*rate.Limiter // by token

	counts struct{ requests, grants, denials, lookups, failed, turnedAway atomic.Uint64 }

	warnings  *rate.Limiter
	changing  chan struct{} // one slot: held by the operation that changes the store
	telling   sync.Mutex    // before gate: Updates go out in order
	strangers strangers
	vouched   strangers // whose first message has verified
	timers    timers
	eraser    *secret.Eraser
	running   sync.WaitGroup // every goroutine and timer of Serve but the audit's
	serving   atomic.Bool
	stopped   chan struct{} // closed when Serve is ending
}

// Options are what New assembles.
type Options struct {
	Store    store.Store // initialised by InitStore; New does not close it
	StoreKey secret.Key  // borrowed until New returns
	Config   Config
	Audit    AuditSink
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // the wall clock; nil: time.Now
}

// New assembles a KDC of its parts and reads its store.
func New(o Options) (*KDC, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	ring, err := newKeyring(o.StoreKey)
	if err != nil {
		return nil, fmt.Errorf("store key: %w", err)
	}
	k := &KDC{
		store: o.Store, ring: ring, audit: newAudit(o.Audit, o.Now, o.Log), log: o.Log, now: o.Now,
		boot: control.NewBoot(), since: o.Now(), began: time.Now(), directory: directory{store: o.Store},
		exchanges: newExchanges(), registry: newRegistry(), repetition: newRepetition(),
		redemptions: map[control.KeyID]*rate.Limiter{}, warnings: rate.NewLimiter(warnRate, warnBurst),
		watchers: map[*watcher]struct{}{}, published: make(chan struct{}), transports: map[net.Conn]struct{}{},
		changing: make(chan struct{}, 1), stopped: make(chan struct{}),
		strangers: newStrangers(), vouched: newStrangers(),
	}
	k.timers = timers{running: &k.running, set: map[*timer]struct{}{}}
	k.eraser = secret.NewEraser(func(d time.Duration, f func()) { k.after(d, f) })
	k.settings.Store(&o.Config)
	k.contact.asOf = k.began
	if err := k.directory.load(context.Background()); err != nil {
		return nil, err
	}
	if !ring.made(k.directory.meta.Check) {
		return nil, ErrStoreKey
	}
	s, err := k.directory.compile()
	if err != nil {
		return nil, err
	}
	k.snapshot.Store(s)
	k.swept.Store(uint64(s.revision))
	return k, nil
}

// Config is the configuration in force.
func (k *KDC) Config() Config { return *k.settings.Load() }

// Close releases the store and the audit record of a KDC that Open made, after Serve has returned.
func (k *KDC) Close() error {
	if k.close == nil {
		return nil
	}
	return k.close()
}
