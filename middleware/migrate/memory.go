package migrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// watched calls work, and counts what Redis evicted during it.
func (m *migration) watched(ctx context.Context, work func(ctx context.Context) error) error {
	before, err := m.states(ctx)
	if err != nil {
		return err
	}
	err = work(ctx)
	if ctx.Err() != nil || errors.Is(err, rediswalk.ErrInfoRefused) { // INFO was already repeated
		return err
	}
	after, e := m.states(ctx)
	if e != nil {
		if err == nil {
			err = e
		}
		return err
	}
	m.walk.Mu.Lock()
	m.work.Evicted += evictedSince(before, after)
	growth := m.counts().Growth
	m.walk.Mu.Unlock()
	// A Cluster spreads entries about evenly over its masters.
	each := growth / int64(max(len(after), 1))
	if room := roomOf(before); m.DryRun && each > room {
		m.warn(fmt.Sprintf("a master needs %d bytes more, but maxmemory leaves %d bytes: Redis would evict entries or refuse writes", each, room))
	}
	return err
}

// states are the states of the masters. A run does not start without INFO, so a refusal is a disturbance.
func (m *migration) states(ctx context.Context) ([]rediswalk.State, error) {
	return rediswalk.RetryValue(ctx, m.walk.Log, "INFO", m.servers.States)
}

// memoryGate ends a run that makes the servers evict, without asking them for each batch.
type memoryGate struct {
	mu     sync.Mutex
	before []rediswalk.State // at the start
	room   int64             // at the last look
	grown  int64             // since then
}

// memoryShare is the part of maxmemory at which a run stops. Clients need room for their buffers.
const memoryShare = 0.97

// admit is called before a write that adds growth bytes.
func (m *migration) admit(ctx context.Context, growth int64) error {
	const part = 8 // of the room that may be used without another look
	g := &m.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.grown += growth; m.AllowEviction || m.Operation == Unseal && m.inPlace() || g.before != nil && g.grown < g.room/part {
		return nil
	}
	states, err := m.servers.States(ctx) // the caller is repeated
	if err != nil {
		return err
	}
	if g.before == nil {
		g.before = states
	}
	g.room, g.grown = math.MaxInt64, 0
	for _, s := range states {
		if s.MaxMemory > 0 {
			g.room = min(g.room, int64(memoryShare*float64(s.MaxMemory))-s.UsedMemory)
		}
	}
	if g.room <= 0 || evictedSince(g.before, states) > 0 {
		m.cancel(ErrMemory)
		return context.Cause(ctx)
	}
	return nil
}

// evictedSince counts evictions. A server that has restarted begins at zero, and is not counted.
func evictedSince(before, after []rediswalk.State) int64 {
	was := make(map[string]int64)
	for _, s := range before {
		was[s.RunID] = s.Evicted
	}
	var n int64
	for _, s := range after {
		if b, ok := was[s.RunID]; ok {
			n += max(s.Evicted-b, 0)
		}
	}
	return n
}

// roomOf returns the least memory that any master has left.
func roomOf(states []rediswalk.State) int64 {
	room := int64(math.MaxInt64)
	for _, s := range states {
		if s.MaxMemory > 0 {
			room = min(room, max(s.MaxMemory-s.UsedMemory, 0))
		}
	}
	return room
}
