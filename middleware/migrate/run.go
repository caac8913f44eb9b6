package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

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
// A run needs a few megabytes of memory, or a few times Config.MaxValueBytes if that is more. After a restart of Redis, a
// failover, or a change of a Cluster, the scan begins again. If the key service does not answer, Run repeats the call for
// half a minute. A value never counts as unreadable because of an outage.
//
// Each run leaves a record in the hash "sealcache.runs" of its database. If another run has undone the work of an
// interrupted run, the interrupted run cannot be resumed. Run then returns ErrCheckpoint.
//
// Two runs of the same Config without Checkpoint at the same time are safe, but do the
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
	unlock := func() {}
	if m.keepsCheckpoint() {
		unlock, err = lockCheckpoint(m.Checkpoint)
	}
	defer unlock()
	if err = unwritable(err); err == nil {
		err = m.run(ctx)
	}
	if err == nil {
		err = m.checkEnd(ctx)
	}
	err = errtext.From("migrate", err)            // it may hold the cause of ctx, which the caller made
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
			err = fmt.Errorf("%w (entries written before the error: %d)", err, r.Written)
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
		failed := m.dropCopies(ctx, m.renaming.unfinishedCopies()) != nil
		if failed || m.renaming.leavesCopies() || m.leavesPlaintext.Load() {
			m.warn("copies of entries may be left next to their originals (repeat the run at once; see docs/hiding.md)")
		}
		m.warnOfLeft(len(m.renaming.doubts())) // the next run does not know them
	}
	if errors.Is(err, ErrWrongKeys) {
		m.before.Refused = true
		m.recordRefusal(ctx)
	}
	if err != nil && m.keepsCheckpoint() && m.before.Run != "" && !errors.Is(err, errUnwritable) {
		last, cancel := m.cleanupContext(ctx)
		defer cancel()
		err = errors.Join(err, m.writeCheckpoint(last))
	}
	return suitable(err)
}

// cleanupContext returns a context for the last steps of a run, whose own context may have ended.
func (m *migration) cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.tuning.CleanupTimeout)
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
			return fmt.Errorf("%w: an earlier run opened no value with these keys (if they are right, set Config.Proof)", ErrWrongKeys)
		}
		m.before.Refused = false
	}
	if err := m.proveCommands(ctx); err != nil {
		return err
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
		// A complete run leaves no copies of entries that the application has deleted, also where answers were lost.
		if err := m.dropUnfinished(ctx); err != nil {
			return err
		}
		if err := m.warnOfPlaintext(ctx); err != nil {
			return err
		}
		return m.confirmed(ctx)
	})
}

// dropUnfinished deletes the copies of claims.unfinishedCopies.
func (m *migration) dropUnfinished(ctx context.Context) error {
	return m.walk.Retry(ctx, "delete copies of entries that the application has deleted", func(ctx context.Context) error {
		return m.dropCopies(ctx, m.renaming.unfinishedCopies())
	})
}

// ErrUnconfirmed reports that a failover may undo the last writes of a run, or has undone some. A replica that was there at
// the start has not confirmed the writes within 15 s, or a master failed over or restarted after its scan. Run it again when
// the replicas are back. The same run goes on waiting for them, also after the server was restarted, unless
// Config.AllowFewerReplicas is set. A run that starts without replicas does not wait for any. Run does not wait for
// replicas of replicas, or for replicas that the server hides, as some managed services do.
var ErrUnconfirmed = errors.New("migrate: replicas lack the last writes, or a failover may have lost them (repeat the run)")

// phases changes the entries. If names or the namespace change, it adds tags before and removes tags afterwards. An
// entry must not be without its tags, but a tag may name entries that do not exist.
func (m *migration) phases(ctx context.Context) error {
	tagsOn, err := m.copyTags(ctx)
	if err != nil {
		return err
	}
	m.enter(phaseEntries)
	if err := m.changeEntries(ctx); err != nil {
		return err
	}
	if m.walk.Unwatched() {
		m.warn("the run cannot notice a restart or failover, because INFO of Redis shows no run_id (audit the data afterwards)")
	}
	// A failover or restart during the scan may have lost tags that were copied before.
	if m.tagged() && !m.walk.Scanned(tagsOn) {
		if _, err := m.copyTags(ctx); err != nil {
			return err
		}
	}
	if m.names != nil && m.Operation == Seal && !m.DryRun {
		m.enter(phaseSealTags)
		// A copy that is sealed again with its tags is not known any more.
		if err := m.dropUnfinished(ctx); err != nil {
			return err
		}
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
	return m.walk.Retry(ctx, "find the present primary key", func(ctx context.Context) error {
		now, err := presentOf(ctx, m.seals)
		if err == nil {
			m.walk.Mu.Lock()
			m.primaryChanged = m.present.differs(now)
			m.walk.Mu.Unlock()
		}
		return err
	})
}

// changeEntries scans the database and changes the entries. It warns if entries may have come into the database unseen.
func (m *migration) changeEntries(ctx context.Context) error {
	moves := func() (rediswalk.DatabaseMoves, error) {
		return rediswalk.RetryValue(ctx, m.walk.Log, "INFO", m.servers.DatabaseMoves)
	}
	if m.before.Moves == (rediswalk.DatabaseMoves{}) && len(m.before.Positions) == 0 { // no run has scanned yet
		before, err := moves()
		if err != nil {
			return err
		}
		m.walk.Mu.Lock()
		m.before.Moves = before
		m.walk.Mu.Unlock()
	}
	if err := m.walk.Run(ctx, m.before.Positions, m.before.Topology); err != nil {
		return err
	}
	now, err := moves()
	if err == nil && !m.servers.Clustered() && (m.before.Moves.Run == "" || now.Run == "") {
		m.warn("the run cannot notice SWAPDB and MOVE, because the server does not show its counters (allow INFO for the Redis user)")
	}
	if err == nil && now.Since(m.before.Moves) {
		m.walk.Mu.Lock()
		m.moved = true
		m.walk.Mu.Unlock()
		m.warn("SWAPDB, MOVE or CONFIG RESETSTAT may have been called, so the scan may have missed entries (repeat the run)")
	}
	return err
}

// copyTags copies tags where the run changes names. It returns the servers that have them.
func (m *migration) copyTags(ctx context.Context) (on []string, err error) {
	if !m.tagged() {
		return nil, nil
	}
	if on, err = rediswalk.RetryValue(ctx, m.walk.Log, "INFO", m.servers.RunIDs); err != nil {
		return nil, fmt.Errorf("migrate: cannot ask the Redis masters for their run ids: %w", err)
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
