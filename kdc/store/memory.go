package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory is a store that lasts as long as the process, for tests and for several KDCs in one process: each takes a
// handle of its own by Share and may close it without closing the others'.
type Memory struct {
	data  *memoryData
	done  chan struct{} // closed by Close
	close func()
}

type memoryData struct {
	mu       sync.RWMutex
	entries  map[string]Entry
	revision Revision
	history  *history
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return newMemory(&memoryData{entries: make(map[string]Entry), history: newHistory(0)})
}

// Share returns another handle to the same entries.
func (m *Memory) Share() *Memory { return newMemory(m.data) }

func newMemory(data *memoryData) *Memory {
	done := make(chan struct{})
	return &Memory{data: data, done: done, close: sync.OnceFunc(func() { close(done) })}
}

// usable says why the handle cannot be used, if so.
func (m *Memory) usable(ctx context.Context) error {
	select {
	case <-m.done:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	if err := m.usable(ctx); err != nil {
		return Entry{}, err
	}
	m.data.mu.RLock()
	defer m.data.mu.RUnlock()
	e, ok := m.data.entries[key]
	if !ok {
		return Entry{}, notFound(key)
	}
	e.Value = slices.Clone(e.Value)
	return e, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, Revision, error) {
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	m.data.mu.RLock()
	defer m.data.mu.RUnlock()
	var list []Entry
	for key, e := range m.data.entries {
		if strings.HasPrefix(key, prefix) {
			e.Value = slices.Clone(e.Value)
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return list, m.data.revision, nil
}

// Apply implements Store.
func (m *Memory) Apply(ctx context.Context, conditions []Condition, ops []Op) (Revision, error) {
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if err := check(conditions, ops); err != nil {
		return 0, err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conditions {
		if is := d.entries[c.Key].Revision; is != c.Revision {
			return 0, conflict(c, is)
		}
	}
	changes := make([]Op, 0, len(ops))
	for _, op := range ops {
		if _, ok := d.entries[op.Key]; ok || !op.Delete {
			changes = append(changes, op)
		}
	}
	if len(changes) == 0 {
		return d.revision, nil
	}
	d.revision++
	for _, op := range changes {
		if op.Delete {
			delete(d.entries, op.Key)
			continue
		}
		d.entries[op.Key] = Entry{Key: op.Key, Value: slices.Clone(op.Value), Revision: d.revision}
	}
	d.history.add(d.revision, changes)
	return d.revision, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, after Revision) <-chan Batch {
	return m.data.history.watch(ctx, m.done, after)
}

// Close implements Store, for this handle.
func (m *Memory) Close() error {
	m.close()
	return nil
}
