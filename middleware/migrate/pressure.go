package migrate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// pressure is what the masters say of their memory.
type pressure struct {
	denied  bool             // the user may not ask
	evicted map[string]int64 // entries, by the run id of the server
	// tight is the least room that any of them has, in bytes, if limited is set.
	tight   int64
	limited bool
}

func pressureOf(ctx context.Context, s *rediswalk.Servers) (pressure, error) {
	p := pressure{evicted: make(map[string]int64)}
	err := s.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		info, err := node.Info(ctx).Result()
		if rediswalk.NotOffered(err) {
			p.denied = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("migrate: INFO: %w", err)
		}
		n := func(name string) int64 {
			n, _ := strconv.ParseInt(rediswalk.Field(info, name), 10, 64)
			return n
		}
		p.evicted[rediswalk.Field(info, "run_id:")] = n("evicted_keys:")
		if most := n("maxmemory:"); most > 0 {
			if room := max(most-n("used_memory:"), 0); !p.limited || room < p.tight {
				p.tight, p.limited = room, true
			}
		}
		return nil
	})
	return p, err
}

// since is how many entries were evicted after an earlier moment. What a server has forgotten in a restart is not counted.
func (p pressure) since(earlier pressure) int64 {
	var n int64
	for id, now := range p.evicted {
		if before, ok := earlier.evicted[id]; ok {
			n += max(now-before, 0)
		}
	}
	return n
}

// watched does the work, and sees what it does to the memory of the servers.
func (m *migration) watched(ctx context.Context, work func(ctx context.Context) error) error {
	var before, after pressure
	look := func(p *pressure) error {
		return m.walk.Retry(ctx, "INFO", func(ctx context.Context) (err error) {
			*p, err = pressureOf(ctx, m.servers)
			return err
		})
	}
	if err := look(&before); err != nil {
		return err
	}
	err := work(ctx)
	if ctx.Err() != nil {
		return err
	}
	if e := look(&after); e != nil {
		if err == nil {
			err = e
		}
		return err
	}
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	m.counts.Evicted += after.since(before)
	if after.denied {
		m.warnings = append(m.warnings, "whether Redis evicted entries is not known: its user may not call INFO")
	}
	// Entries are spread evenly over the masters of a Cluster, more or less.
	if each := m.counts.Growth / int64(max(len(after.evicted), 1)); m.DryRun && before.limited && each > before.tight {
		m.warnings = append(m.warnings, fmt.Sprintf("what is stored would grow by %d bytes, and maxmemory leaves %d on a master: "+
			"Redis would evict entries, or refuse to write", each, before.tight))
	}
	return err
}
