package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// migration is one run.
type migration struct {
	Config
	servers *rediswalk.Servers
	scripts scripts
	tuning  rediswalk.Tuning
	sealed  wire.Type // of clear values
	walk    *rediswalk.Walk[*Counts]
	keys    *present

	seals   *cachevalue.Sealer   // with Keys, for the target
	opens   []*cachevalue.Sealer // with all keys, for From
	arrived []*cachevalue.Sealer // with all keys, for the target, if that is another

	started time.Time
	before  checkpoint // what earlier runs did
	counts  Counts     // of all runs; guarded by walk.mu
	cancel  context.CancelCauseFunc

	warnings       []string // guarded by walk.mu
	primaryChanged bool

	opened atomic.Bool  // whether a sealed entry has opened
	wrote  atomic.Int64 // entries that this run has written, committed or not; those of a call that failed, too
}

// Run does what the Config says, until it is done or cannot go on. The client is one of a single node, Sentinel or
// Cluster, and stays open.
//
// The Report is never nil once the Config was accepted: an error, or the end of ctx, leaves one that is not Complete, and
// a checkpoint from which the same Config goes on. A Report that is Complete may still say that entries were left: see
// Report.Left. Errors are ErrConfig, ErrWrongKeys, those of Redis, of the key service (after it was tried for half a minute), of ctx
// and of the checkpoint's file. Two runs at the same time do no harm, but twice the work.
func Run(ctx context.Context, client redis.UniversalClient, c Config) (*Report, error) {
	m, err := newMigration(ctx, client, c)
	if err != nil {
		return nil, err
	}
	err = m.run(ctx)
	if err == nil && m.Checkpoint != "" && !m.DryRun {
		err = removeCheckpoint(m.Checkpoint)
	}
	r := m.report(err == nil)
	if errors.Is(err, ErrWrongKeys) && !m.DryRun {
		if r.Written = max(r.Written, m.before.Counts.Written+m.wrote.Load()); r.Written > 0 {
			err = fmt.Errorf("%w; %d entries were written by then", err, r.Written)
		}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r, err
}

func newMigration(ctx context.Context, client redis.UniversalClient, c Config) (*migration, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &migration{Config: c, scripts: newScripts(), tuning: rediswalk.TuningOf(ctx, c.Rate), started: time.Now()}
	if m.servers, err = rediswalk.New(client); err != nil {
		return nil, err
	}
	if m.sealed, err = c.As.wire(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	to := c.target()
	m.seals = cachevalue.NewSealer(c.Keys, to.Namespace)
	m.opens = []*cachevalue.Sealer{cachevalue.NewSealer(c.Keys, c.From.Namespace)}
	if c.OldKeys != nil {
		m.opens = append(m.opens, cachevalue.NewSealer(c.OldKeys, c.From.Namespace))
	}
	m.arrived = m.opens
	if c.rebinds() {
		m.arrived = []*cachevalue.Sealer{m.seals}
		if c.OldKeys != nil {
			m.arrived = append(m.arrived, cachevalue.NewSealer(c.OldKeys, to.Namespace))
		}
	}
	if m.keys, err = presentOf(ctx, m.seals); err != nil {
		return nil, err
	}
	work := m.inPlaceBatch
	if !c.inPlace() {
		work = m.moveBatch
	}
	m.walk = &rediswalk.Walk[*Counts]{
		Servers: m.servers,
		Pattern: rediswalk.Literal(c.From.stored()) + "*",
		Tuning:  m.tuning,
		Log:     c.Logger,
		Work:    work,
		Commit: func(_ *rediswalk.Track[*Counts], c *Counts) {
			if c == nil {
				return
			}
			m.counts.add(c)
			if n := m.counts.unopened(); !m.IgnoreUnreadable && n >= canaryMost && m.counts.Opened < n {
				m.cancel(&explained{"migrate: of the sealed entries that were met fewer than half open: what opens may be what an earlier run wrote under wrong keys", ErrWrongKeys})
			}
		},
	}
	if c.Rate > 0 {
		m.walk.Limiter = rate.NewLimiter(rate.Limit(c.Rate), m.tuning.BatchSize)
	}
	return m, nil
}

func (m *migration) run(ctx context.Context) error {
	job := m.job(m.servers.Database(), m.keys)
	m.before = checkpoint{Format: checkpointFormat, Job: job, Started: m.started.UTC()}
	if m.Checkpoint != "" && !m.DryRun {
		if err := m.resume(ctx, job); err != nil {
			return err
		}
	}
	m.before.Runs++

	stop := make(chan struct{})
	var background sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.cancel = cancel
	if m.Checkpoint != "" && !m.DryRun {
		background.Go(func() {
			// A checkpoint that cannot be written would be missed when it is needed: better to say so now.
			if err := m.keepCheckpoint(stop); err != nil {
				cancel(err)
			}
		})
	}
	if m.Progress != nil {
		background.Go(func() { m.keepProgress(stop) })
	}
	err := m.watched(ctx, m.phases)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		if err = cause; !strings.HasPrefix(cause.Error(), "migrate:") {
			err = fmt.Errorf("migrate: %w", cause)
		}
	}
	close(stop)
	background.Wait()
	if err != nil && m.Checkpoint != "" && !m.DryRun {
		err = errors.Join(err, m.snapshot().write(m.Checkpoint))
	}
	return err
}

func (m *migration) resume(ctx context.Context, job string) error {
	old, err := readCheckpoint(m.Checkpoint, job)
	if err != nil {
		return err
	}
	if old == nil {
		m.before.Proof, err = m.prove(ctx)
		return err
	}
	if err := m.proven(ctx, old.Proof); err != nil {
		return err
	}
	for _, k := range old.DataKeys {
		m.keys.dataKeys[k] = true
	}
	m.before = *old
	m.counts = old.Counts.clone()
	return nil
}

// phases are the entries; around them, where names or the namespace change, the tags: an entry must not be there without its tags, and
// memberships of entries that are not there do no harm.
func (m *migration) phases(ctx context.Context) error {
	if err := m.sing(ctx); err != nil {
		return err
	}
	if m.tagged() {
		if err := m.moveTags(ctx); err != nil {
			return err
		}
	}
	if err := m.walk.Run(ctx, m.before.Positions, m.before.Topology); err != nil {
		return err
	}
	if m.DeleteOld {
		if err := m.dropTags(ctx); err != nil {
			return err
		}
	}
	if m.Operation != Reseal {
		return nil
	}
	return m.walk.Retry(ctx, "the primary key", func(ctx context.Context) error {
		now, err := presentOf(ctx, m.seals)
		if err == nil {
			m.primaryChanged = now.Envelope != m.keys.Envelope || now.HasKeyID != m.keys.HasKeyID || now.KeyID != m.keys.KeyID
		}
		return err
	})
}

// snapshot is the checkpoint of this moment.
func (m *migration) snapshot() *checkpoint {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	c := m.before
	c.Positions = make(map[string]rediswalk.Position)
	for _, t := range m.walk.Tracks {
		if t.RunID != "" {
			c.Positions[t.RunID] = rediswalk.Position{Cursor: t.Cursor, Done: t.Done}
		}
	}
	if len(m.walk.Tracks) == 0 { // the scan has not begun
		maps.Copy(c.Positions, m.before.Positions)
	} else {
		c.Topology = m.walk.Since
	}
	c.Counts = m.counts.clone()
	c.Restarts += m.walk.Restarts
	c.Elapsed += time.Since(m.started)
	m.keys.mu.Lock()
	c.DataKeys = slices.Sorted(maps.Keys(m.keys.dataKeys))
	m.keys.mu.Unlock()
	return &c
}

func (m *migration) keepCheckpoint(stop <-chan struct{}) error {
	tick := time.NewTicker(m.tuning.CheckpointEvery)
	defer tick.Stop()
	for {
		// At once, too: a path that cannot be written to is found before anything is done.
		if err := m.snapshot().write(m.Checkpoint); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

func (m *migration) keepProgress(stop <-chan struct{}) {
	tick := time.NewTicker(m.tuning.ProgressEvery)
	defer tick.Stop()
	var pace rediswalk.Pace
	for {
		select {
		case <-stop:
			p := m.progress(&pace)
			p.Final = true
			m.Progress(p)
			return
		case <-tick.C:
			m.Progress(m.progress(&pace))
		}
	}
}

func (m *migration) progress(pace *rediswalk.Pace) Progress {
	m.walk.Mu.Lock()
	p := Progress{Counts: m.counts.clone(), Fraction: m.walk.Fraction(), Elapsed: time.Since(m.started)}
	m.walk.Mu.Unlock()
	p.Rate, p.Remaining = pace.Update(p.Elapsed, p.Seen, p.Fraction)
	return p
}

func (m *migration) report(complete bool) *Report {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	r := &Report{
		Operation:      m.Operation.String(),
		From:           m.From.stored(),
		DryRun:         m.DryRun,
		LeaveNumbers:   m.LeaveNumbers,
		Complete:       complete,
		Runs:           m.before.Runs,
		Started:        m.before.Started,
		Elapsed:        m.before.Elapsed + time.Since(m.started),
		Masters:        len(m.walk.Tracks),
		Restarts:       m.before.Restarts + m.walk.Restarts,
		PrimaryChanged: m.primaryChanged,
		Warnings:       slices.Clone(m.warnings),
		Counts:         m.counts.clone(),
	}
	if m.To != nil {
		r.To = m.To.stored()
	}
	return r
}
