package migrate

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// resume takes over what earlier runs have done.
func (m *migration) resume(old *checkpoint) {
	for _, k := range old.DataKeys {
		m.present.dataKeys[k] = true
	}
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	m.before = *old
	m.work, m.rewritten = old.Work.clone(), old.Rewritten
	m.exclude.Restore(old.Excluded)
	for _, p := range old.Positions {
		if p.Tally.Opened > 0 {
			m.opened.Store(true)
		}
	}
}

// snapshot is the checkpoint of this moment.
func (m *migration) snapshot() *checkpoint {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	c := m.before
	c.Positions = make(map[string]rediswalk.Position[Counts])
	for _, t := range m.walk.Tracks {
		if t.RunID != "" {
			c.Positions[t.RunID] = t.Position
		}
	}
	if len(m.walk.Tracks) == 0 { // the scan has not begun
		maps.Copy(c.Positions, m.before.Positions)
	} else {
		c.Topology = m.walk.Since
	}
	for id, p := range c.Positions { // the scan will share those of before, too
		p.Tally = p.Tally.clone()
		c.Positions[id] = p
	}
	c.Work, c.Rewritten = m.work.clone(), m.rewritten
	c.Restarts += m.walk.Restarts
	c.Elapsed += time.Since(m.started)
	c.Updated = time.Now().UTC()
	c.Excluded = m.exclude.Matched()
	m.present.mu.Lock()
	c.DataKeys = slices.Sorted(maps.Keys(m.present.dataKeys))
	m.present.mu.Unlock()
	return &c
}

func (m *migration) keepCheckpoint(ctx context.Context, stop <-chan struct{}) error {
	tick := time.NewTicker(m.tuning.CheckpointEvery)
	defer tick.Stop()
	for {
		// At once, too: a path that cannot be written to is found before anything is done.
		if err := m.writeCheckpoint(ctx); err != nil && !errors.Is(err, aead.ErrKeyServiceUnavailable) && ctx.Err() == nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}
