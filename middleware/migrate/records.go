package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// ErrOpposed reports that Seal and Unseal changed the same names at the same time. The run has scanned everything, but the
// opposite run may have changed entries after this scan had passed them. Run it again, alone. Both runs return ErrOpposed,
// unless one of them was killed or ended before the other. A run that ends before an earlier opposite run has
// Report.OppositeLeft.
var ErrOpposed = errors.New("migrate: a sealing run and an unsealing run changed the same entries (repeat only the run you want)")

// accessRuns names an operation on the records of runs in the log.
const accessRuns = "read or write the key sealcache.runs"

// record is the record of the run in Redis.
func (m *migration) record(job string) rediswalk.Run {
	return rediswalk.Run{Operation: m.Operation.String(), Job: job, From: m.From.stored(), To: m.target().stored()}
}

// register records the run in Redis, so that the checkpoint of an opposite run is refused.
func (m *migration) register(ctx context.Context, job string) error {
	if m.DryRun {
		return nil
	}
	r := m.record(job)
	r.Replicas, r.Began = m.replicas, m.began
	err := m.writeRecord(ctx, func(ctx context.Context) (err error) {
		if m.before.Run, err = m.servers.RegisterRun(ctx, r); err == nil {
			m.before.Opposites, err = m.servers.UnfinishedOpposites(ctx, m.before.Run)
		}
		return err
	})
	switch {
	case errors.Is(err, ErrMemory):
		return err
	case errors.Is(err, rediswalk.ErrRunsRefused) && m.Checkpoint == "":
		m.warn("this run cannot write " + rediswalk.RunsName + ", so older checkpoint files stay valid (allow the key in the user's ACL)")
		return nil
	case err != nil:
		return fmt.Errorf("migrate: cannot record the run (Redis key sealcache.runs): %w", err)
	}
	return nil
}

// writeRecord repeats do, which writes a record. It returns ErrMemory at once if Redis is full: the record is the first write of
// a run.
func (m *migration) writeRecord(ctx context.Context, do func(ctx context.Context) error) error {
	full := false
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) error {
		err := do(ctx)
		if full = rediserr.Code(err) == "OOM"; full {
			return nil
		}
		return err
	})
	if full {
		return ErrMemory
	}
	return err
}

// endRun records that the run is complete, so that an older copy of its checkpoint is refused.
func (m *migration) endRun(ctx context.Context) {
	if m.before.Run == "" {
		return
	}
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) error { return m.servers.EndRun(ctx, m.before.Run) })
	if err != nil {
		m.warn("Redis did not store that this run is complete, so copies of its checkpoint file stay valid (delete them)")
	}
}

// keysDigest names the keys of the run in its record. Keys without an id are known by the settings of the run alone.
func (m *migration) keysDigest() string {
	const size = 8
	text := m.before.Job
	if m.present.HasID {
		text = fmt.Sprint(m.present.Envelope(), m.present.ID)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:size])
}

// recordRefusal records that the keys of the run are wrong. Its own writes must not prove them when it is repeated, also without
// a checkpoint. Unseal leaves nothing that opens under its keys.
func (m *migration) recordRefusal(ctx context.Context) {
	if m.Operation == Unseal || m.DryRun {
		return
	}
	const lost = "Redis could not store that the given keys are wrong (do not repeat the run with these keys)"
	if m.before.Run == "" { // nothing was written, or the user may not write the records
		if m.wrote.Load() > 0 {
			m.warn(lost)
		}
		return
	}
	ctx, cancel := m.cleanupContext(ctx)
	defer cancel()
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) error {
		r := m.record(m.before.Job)
		r.Began = m.began
		return m.servers.RefuseRun(ctx, m.before.Run, r, m.keysDigest())
	})
	if err != nil {
		m.warn(lost)
	}
}

// expectReplicas finds the replicas that have to confirm the run. A repetition of a run that did not end as complete expects
// the replicas of the first run too. The server may be an old master that has lost them.
func (m *migration) expectReplicas(ctx context.Context) error {
	masters, err := m.states(ctx)
	if err != nil {
		return fmt.Errorf("migrate: cannot ask the Redis masters for their state: %w", err)
	}
	m.replicas = rediswalk.Replicas(masters)
	for _, s := range masters {
		m.began = max(m.began, s.Now)
	}
	if m.DryRun {
		return nil
	}
	unconfirmed, err := rediswalk.RetryValue(ctx, m.walk.Log, accessRuns, func(ctx context.Context) (map[string]int, error) {
		return m.servers.Unconfirmed(ctx, m.before.Job, m.before.Run, masters)
	})
	if err != nil && !errors.Is(err, rediswalk.ErrRunsRefused) { // see register
		return fmt.Errorf("migrate: cannot read the records of runs (Redis key sealcache.runs): %w", err)
	}
	for id, n := range m.replicas {
		m.replicas[id] = max(n, unconfirmed[id])
	}
	if m.before.Run == "" {
		return nil // see register
	}
	err = m.writeRecord(ctx, func(ctx context.Context) error { return m.servers.ExpectReplicas(ctx, m.before.Run, m.replicas) })
	if err != nil && !errors.Is(err, ErrMemory) {
		return fmt.Errorf("migrate: cannot write the records of runs (Redis key sealcache.runs): %w", err)
	}
	return err
}

// confirmed waits until the replicas have what the run has written.
func (m *migration) confirmed(ctx context.Context) error {
	if m.DryRun {
		return nil
	}
	err := m.walk.Confirm(ctx, m.replicas, m.AllowFewerReplicas)
	switch {
	case errors.Is(err, rediswalk.ErrUnconfirmed):
		return ErrUnconfirmed
	case err != nil:
		return fmt.Errorf("migrate: cannot learn whether the replicas have the last writes: %w", err)
	}
	return nil
}

// checkRefusals returns ErrWrongKeys if an earlier run with the same keys ended with ErrWrongKeys.
func (m *migration) checkRefusals(ctx context.Context) error {
	if m.Operation == Unseal || m.IgnoreUnreadable || m.provenBy != "" {
		return nil
	}
	refused, err := rediswalk.RetryValue(ctx, m.walk.Log, accessRuns, func(ctx context.Context) (bool, error) {
		return m.servers.WasRefused(ctx, m.record(m.before.Job), m.keysDigest())
	})
	switch {
	case errors.Is(err, rediswalk.ErrRunsRefused):
		return nil // see register
	case err != nil:
		return fmt.Errorf("migrate: cannot read the records of runs (Redis key sealcache.runs): %w", err)
	case refused && m.DryRun:
		m.warn("the real run would refuse to start: the given keys opened no value in an earlier run")
		return nil
	case refused:
		return fmt.Errorf("%w: an earlier run opened no value with these keys (if they are right, set Config.Proof)", ErrWrongKeys)
	}
	return nil
}

// checkEnd returns ErrOpposed if an opposite run may have undone a part of the work since the scan passed it. It warns of an
// earlier one that is not complete. Its record does not show whether it still runs or was stopped. The next run does not warn
// of it again.
func (m *migration) checkEnd(ctx context.Context) error {
	if m.before.Run == "" {
		return nil
	}
	left, err := rediswalk.RetryValue(ctx, m.walk.Log, accessRuns, func(ctx context.Context) (bool, error) {
		return m.servers.CheckEnd(ctx, m.before.Run, m.before.Opposites)
	})
	if left {
		m.warn("an earlier run of the opposite operation did not end (repeat this run when that one no longer runs)")
		m.oppositeLeft = true
	}
	switch {
	case errors.Is(err, rediswalk.ErrOpposed):
		return ErrOpposed
	case err != nil:
		return fmt.Errorf("migrate: cannot read the records of runs (Redis key sealcache.runs): %w", err)
	}
	return nil
}
