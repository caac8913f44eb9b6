package migrate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// migration is one run.
type migration struct {
	Config
	servers  *rediswalk.Servers
	lasting  *rediswalk.Servers // the same, for steps that end after ctx
	scripts  scripts
	tuning   rediswalk.Tuning
	throttle *rediswalk.Throttle
	exclude  *rediswalk.Filter
	sealed   wire.Type // of plaintext values
	walk     *rediswalk.Walk[Counts]
	present  *present

	seals   *box.Box        // with Keys, for the target
	own     *box.Box        // with Keys, for what the run keeps
	opens   cachevalue.Keys // all keys, for From
	arrived cachevalue.Keys // all keys, for the target
	packer  *content.Packer
	names   *hiddenNames // nil: hidden names stay as they are

	started  time.Time
	began    int64             // when it began by the clock of a server, in Unix seconds; 0 if unknown
	replicas map[string]int    // that must confirm the writes, by the run id of their master
	copies   *rediswalk.Copies // nil if no original is deleted, or each is on the master of its copy
	renaming *claims

	before checkpoint // the work of earlier runs
	cancel context.CancelCauseFunc

	// Guarded by walk.Mu.
	work           Counts // see checkpoint.Work
	rewritten      int64  // see checkpoint.Rewritten
	phase          string
	warnings       []string
	provenBy       string
	primaryChanged bool
	moved          bool // see Report.Moved
	oppositeLeft   bool // see Report.OppositeLeft

	opened atomic.Bool // a sealed entry has opened
	// namesProven says that the application has hidden an entry with one of the PRF keys.
	namesProven atomic.Bool
	// leavesPlaintext says that Unseal has left plaintext, perhaps next to a hidden entry: see takeBack.
	leavesPlaintext atomic.Bool
	gate            memoryGate
	expiryOnce      sync.Once
	expiryErr       error // of proveExpiry
	tagsOnce        sync.Once
	tagsErr         error        // of proveTags
	wrote           atomic.Int64 // entries that this run has written, committed or not; those of a call that failed, too
}

func newMigration(ctx context.Context, client redis.UniversalClient, c Config) (*migration, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &migration{Config: c, scripts: newScripts(), tuning: rediswalk.TuningOf(ctx, c.Rate), renaming: newClaims(), started: time.Now(), phase: phaseKeys}
	if m.servers, err = rediswalk.New(client); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	m.lasting = m.servers.Lasting(m.tuning.CleanupTimeout)
	if err := m.makeKeys(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if m.present, err = presentOf(ctx, m.seals); err != nil {
		return nil, err
	}
	m.throttle = rediswalk.NewThrottle(c.Rate, c.BytesPerSecond, m.tuning.BatchSize)
	if c.Control != nil {
		c.Control.c.Attach(m.throttle)
	}
	work := m.inPlaceBatch
	pattern := c.From.stored()
	switch {
	case m.names != nil: // a hidden name does not start with the prefix of its key
		work, pattern = m.inGroups(m.hideEntries), c.From.namespace()
	case !c.inPlace():
		work = m.inGroups(m.moveGroup)
	}
	m.walk = &rediswalk.Walk[Counts]{
		Servers:  m.servers,
		Pattern:  rediscmd.Pattern(pattern),
		Tuning:   m.tuning,
		Throttle: m.throttle,
		Log:      c.Logger,
		Work:     work,
		Merge: func(tally, c *Counts) {
			tally.add(c.state())
			m.work.add(c.work())
		},
		Discard: func(tally *Counts) { m.rewritten += tally.Written },
	}
	return m, nil
}

// makeKeys makes the boxes of all keys.
func (m *migration) makeKeys() (err error) {
	if m.exclude, err = m.excluded(); err != nil {
		return err
	}
	if m.sealed, err = m.As.wire(); err != nil {
		return err
	}
	if m.names, err = newHiddenNames(&m.Config); err != nil {
		return err
	}
	m.packer = content.New(content.None, 0, false, cachevalue.MaxBytes)
	if m.seals, err = box.New(m.Keys, wire.CacheValue, m.target().Namespace); err != nil {
		return err
	}
	m.seals.Prove() // the sealed value replaces the only copy
	if m.own, err = m.ownBox(m.Keys); err != nil {
		return err
	}
	if m.opens, err = cachevalue.NewKeys(m.From.Namespace, m.allKeys()...); err != nil {
		return err
	}
	m.arrived, err = cachevalue.NewKeys(m.target().Namespace, m.allKeys()...)
	return err
}

// allKeys are Keys, and OldKeys if there are any.
func (m *migration) allKeys() []tink.AEADWithContext {
	if m.OldKeys == nil {
		return []tink.AEADWithContext{m.Keys}
	}
	return []tink.AEADWithContext{m.Keys, m.OldKeys}
}

func (m *migration) keepsCheckpoint() bool { return m.Checkpoint != "" && !m.DryRun }
