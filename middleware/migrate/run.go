package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
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
	walk     *rediswalk.Walk[*Counts]
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
	renaming claims

	before checkpoint // the work of earlier runs
	cancel context.CancelCauseFunc

	// Guarded by walk.Mu.
	work           Counts // see checkpoint.Work
	rewritten      int64  // see checkpoint.Rewritten
	phase          string
	warnings       []string
	provenBy       string
	primaryChanged bool

	opened atomic.Bool // a sealed entry has opened
	// namesProven says that the application has hidden an entry with one of the PRF keys.
	namesProven atomic.Bool
	gate        memoryGate
	wrote       atomic.Int64 // entries that this run has written, committed or not; those of a call that failed, too
}

// The phases of a run, in Progress.
const (
	phaseKeys     = "checking the keys"
	phaseTags     = "copying tags"
	phaseEntries  = "entries"
	phaseSealTags = "sealing tags"
	phaseCleanup  = "removing old tags"
)

// Run does the operation of the Config until it is complete or fails. It accepts a client of a single node, of
// Sentinel or of a Cluster, and does not close it. The client's ReadTimeout bounds each call. Do not
// disable it: a server that does not answer would hold the run, even after the end of ctx.
//
// Two runs of the same Config at the same time are safe, but do the
// work twice. The exception is a Cluster with hidden names: there, give names to entries by one run at a time. Otherwise an
// entry can be lost that the application changes while both runs rename it, or that both runs of Unseal rename.
//
// The Report is never nil if the Config was accepted. After an error, or the end of ctx, it is not Complete, and the
// checkpoint resumes the same Config. A Complete Report may still name entries that were left: see Report.Done. Errors are
// ErrConfig, ErrWrongKeys, ErrUnproven, ErrCheckpoint, ErrOpposed, ErrUnconfirmed,
// ErrMemory, and those of Redis, the key service, ctx and files.
func Run(ctx context.Context, client redis.UniversalClient, c Config) (*Report, error) {
	m, err := newMigration(ctx, client, c)
	if err != nil {
		return nil, err
	}
	if err = m.run(ctx); err == nil {
		err = m.checkEnd(ctx)
	}
	if err == nil || errors.Is(err, ErrOpposed) { // nothing is left to resume
		removed := error(nil)
		if m.keepsCheckpoint() {
			removed = removeCheckpoint(m.Checkpoint)
		}
		if removed == nil {
			m.endRun(ctx)
		}
		err = errors.Join(err, removed)
	}
	r := m.report(err == nil)
	if errors.Is(err, ErrWrongKeys) && !m.DryRun {
		if r.Written = max(r.Written, m.wrote.Load()); r.Written > 0 {
			err = fmt.Errorf("%w (%d entries were written before)", err, r.Written)
		}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r, err
}

// ErrMemory reports that a master is about to reach maxmemory, or evicts entries. The checkpoint resumes the run. See
// Config.AllowEviction.
var ErrMemory = errors.New("migrate: a Redis master is close to maxmemory or evicts entries (raise maxmemory)")

func newMigration(ctx context.Context, client redis.UniversalClient, c Config) (*migration, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &migration{Config: c, scripts: newScripts(), tuning: rediswalk.TuningOf(ctx, c.Rate), started: time.Now(), phase: phaseKeys}
	if m.servers, err = rediswalk.New(client); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	m.lasting = m.servers.Lasting(m.tuning.Patience)
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
		work, pattern = m.hideBatch, c.From.namespace()
	case !c.inPlace():
		work = m.moveBatch
	}
	m.walk = &rediswalk.Walk[*Counts]{
		Servers:  m.servers,
		Pattern:  rediscmd.Pattern(pattern),
		Tuning:   m.tuning,
		Throttle: m.throttle,
		Log:      c.Logger,
		Work:     work,
		Merge: func(tally, c *Counts) *Counts {
			if tally == nil {
				tally = new(Counts)
			}
			if c != nil {
				tally.add(c.state())
				m.work.add(c.work())
			}
			return tally
		},
		Discard: func(tally *Counts) {
			if tally != nil {
				m.rewritten += tally.Written
			}
		},
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

func (m *migration) run(ctx context.Context) error {
	caller := ctx
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	m.cancel = cancel
	stop := make(chan struct{})
	var background sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); background.Wait() })
	defer end()
	if m.Progress != nil {
		background.Go(func() { m.keepProgress(stop) })
	}
	err := m.prepareRun(ctx)
	if err == nil {
		err = m.supervised(ctx, stop, &background)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		if err = cause; errors.Is(context.Cause(caller), cause) { // the caller ended the run, not the run itself
			err = fmt.Errorf("migrate: the run was stopped: %w", cause)
		}
	}
	end()
	if err != nil {
		_ = m.dropCopies(ctx, append(m.renaming.takeFailed(), m.renaming.unfinishedCopies()...))
	}
	if errors.Is(err, ErrWrongKeys) {
		m.before.Refused = true
		m.recordRefusal(ctx)
	}
	if err != nil && m.keepsCheckpoint() && m.before.Run != "" {
		last, cancel := m.untilPatience(ctx)
		defer cancel()
		err = errors.Join(err, m.writeCheckpoint(last))
	}
	return suitable(err)
}

// untilPatience returns a context for the last steps of a run, whose own context may have ended.
func (m *migration) untilPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.tuning.Patience)
}

// suitable makes an unsuitable client an ErrConfig.
func suitable(err error) error {
	if errors.Is(err, rediswalk.ErrUnsuitable) {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return err
}

// prepareRun does everything that comes before the first write.
func (m *migration) prepareRun(ctx context.Context) error {
	if err := m.servers.Check(ctx); err != nil {
		return err
	}
	if err := m.proveKeys(ctx); err != nil {
		return err
	}
	job := m.job(m.servers.Database(), m.present)
	m.walk.Mu.Lock() // Progress reads it
	m.before = checkpoint{Job: job, Started: m.started.UTC()}
	m.walk.Mu.Unlock()
	if m.keepsCheckpoint() {
		old, err := m.readCheckpoint(ctx, job)
		if err != nil {
			return err
		}
		if old != nil {
			m.resume(old)
		}
		if m.before.Refused && !m.IgnoreUnreadable && m.provenBy == "" {
			return fmt.Errorf("%w: in the run of this checkpoint, these keys opened no value (give Proof if they are right)", ErrWrongKeys)
		}
		m.before.Refused = false
	}
	if err := m.proveCommands(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := m.expectReplicas(ctx); err != nil {
		return err
	}
	if err := m.makeCopies(ctx); err != nil {
		return err
	}
	if err := m.checkRefusals(ctx); err != nil {
		return err
	}
	if m.before.Runs == 0 {
		if err := m.tryFirst(ctx); err != nil {
			return err
		}
		if err := m.register(ctx, job); err != nil {
			return err
		}
		m.before.OldKeys = m.oldKeysProof(ctx)
	}
	m.before.Runs++
	return nil
}

// register records the run in Redis, so that the checkpoint of an opposite run is refused.
func (m *migration) register(ctx context.Context, job string) error {
	if m.DryRun {
		return nil
	}
	r := m.record(job)
	r.Replicas, r.Began = m.replicas, m.began
	full := false // the record is the first write of a run
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) (err error) {
		if m.before.Run, err = m.servers.RegisterRun(ctx, r); err == nil {
			m.before.Opposites, err = m.servers.UnfinishedOpposites(ctx, m.before.Run)
		}
		if full = rediserr.Code(err) == "OOM"; full {
			return nil
		}
		return err
	})
	switch {
	case full:
		return ErrMemory
	case errors.Is(err, rediswalk.ErrRunsRefused) && m.Checkpoint == "":
		m.warn("the run was not recorded (allow the key " + rediswalk.RunsName + "), so older checkpoints of other runs are not refused")
		return nil
	case err != nil:
		return fmt.Errorf("migrate: record the run: %w", err)
	}
	return nil
}

// endRun records that the run is complete, so that an older copy of its checkpoint is refused.
func (m *migration) endRun(ctx context.Context) {
	if m.before.Run == "" {
		return
	}
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) error { return m.servers.EndRun(ctx, m.before.Run) })
	if err != nil {
		m.warn("the end of the run was not recorded (remove all copies of its checkpoint)")
	}
}

// supervised does the work, keeps the checkpoint and watches the servers.
func (m *migration) supervised(ctx context.Context, stop <-chan struct{}, background *sync.WaitGroup) error {
	if m.keepsCheckpoint() {
		background.Go(func() {
			// A checkpoint that cannot be written would be missed when it is needed.
			if err := m.keepCheckpoint(ctx, stop); err != nil {
				m.cancel(err)
			}
		})
	}
	guard := rediswalk.Guard{MaxLatency: m.MaxLatency, MaxLagBytes: m.MaxLagBytes}
	watching, done := context.WithCancel(ctx)
	background.Go(func() { guard.Watch(watching, m.servers, m.throttle) })
	defer done()
	return m.watched(ctx, func(ctx context.Context) error {
		switch err := m.phases(ctx); {
		case errors.Is(err, rediswalk.ErrUnconfirmed):
			return ErrUnconfirmed
		case err != nil:
			return err
		}
		// The copies of deleted entries must not stay in a complete run.
		err := m.walk.Retry(ctx, "copies of deleted entries", func(ctx context.Context) error {
			return m.dropCopies(ctx, m.renaming.takeFailed())
		})
		if err != nil {
			return err
		}
		return m.confirmed(ctx)
	})
}

// ErrUnconfirmed reports that a failover may undo the last writes of a run, or has undone some. A replica that was there at
// the start has not confirmed the writes within 15 s, or a master failed over or restarted after its scan. Run it again when
// the replicas are back. The same run goes on waiting for them, also after the server was restarted, unless
// Config.AllowFewerReplicas is set. A run that starts without replicas does not wait for any.
var ErrUnconfirmed = errors.New("migrate: replicas lack the last writes, or a failover may have lost them (repeat the run)")

// phases changes the entries. If names or the namespace change, it adds tags before and removes tags afterwards. An
// entry must not be without its tags, but a tag may name entries that do not exist.
func (m *migration) phases(ctx context.Context) error {
	tagsOn, err := m.copyTags(ctx)
	if err != nil {
		return err
	}
	m.enter(phaseEntries)
	if err := m.walk.Run(ctx, m.before.Positions, m.before.Topology); err != nil {
		return err
	}
	// A failover or restart during the scan may have lost tags that were copied before.
	if m.tagged() && !m.walk.Scanned(tagsOn) {
		if _, err := m.copyTags(ctx); err != nil {
			return err
		}
	}
	if m.names != nil && m.Operation == Seal && !m.DryRun {
		m.enter(phaseSealTags)
		if err := m.sealTags(ctx); err != nil {
			return err
		}
	}
	if m.DeleteOld {
		m.enter(phaseCleanup)
		// The old tags stay until no failover can lose the copies.
		if err := m.confirmed(ctx); err != nil {
			return err
		}
		if err := m.dropTags(ctx); err != nil {
			return err
		}
	}
	if m.Operation != Reseal {
		return nil
	}
	if err := m.renewKeyCheck(ctx); err != nil {
		return err
	}
	return m.walk.Retry(ctx, "the primary key", func(ctx context.Context) error {
		now, err := presentOf(ctx, m.seals)
		if err == nil {
			m.walk.Mu.Lock()
			m.primaryChanged = m.present.differs(now)
			m.walk.Mu.Unlock()
		}
		return err
	})
}

// copyTags copies tags where the run changes names. It returns the servers that have them.
func (m *migration) copyTags(ctx context.Context) (on []string, err error) {
	if !m.tagged() {
		return nil, nil
	}
	err = m.walk.Retry(ctx, "INFO", func(ctx context.Context) (err error) {
		on, err = m.servers.RunIDs(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("migrate: ask the masters for their run ids: %w", err)
	}
	m.enter(phaseTags)
	return on, m.moveTags(ctx)
}

func (m *migration) enter(phase string) {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	m.phase = phase
}

func (m *migration) warn(text string) {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	m.warnings = append(m.warnings, text)
}
