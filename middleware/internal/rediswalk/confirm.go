package rediswalk

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sealcache/sealcache/internal/sleep"
)

// ErrUnconfirmed reports that a failover may lose writes of a run, or that a failover or a restart may have lost some.
var ErrUnconfirmed = errors.New("replicas did not confirm the writes, or Redis failed over or restarted (repeat the run)")

const (
	confirmEvery = 100 * time.Millisecond

	// settleReplicas is how long Sentinel may take to announce a replica that it has promoted. Until then it names the old
	// master, which has lost that replica (sentinel.c, SENTINEL_FAILOVER_STATE_WAIT_PROMOTION).
	settleReplicas = 3 * time.Second
)

// Replicas counts the replicas of each master, by the run id of the master. Replicas that are being filled count, because they
// may be promoted before the run ends.
func Replicas(masters []State) map[string]int {
	replicas := make(map[string]int, len(masters))
	for _, m := range masters {
		replicas[m.RunID] = m.Online + m.Syncing
	}
	return replicas
}

// Confirm waits until every replica that is online has what was written to its master before the call, for at most 15 s.
// Otherwise, or if the masters are no longer those that were scanned, it returns ErrUnconfirmed. before is what Replicas
// returned when the writes began: a master that has lost all replicas confirms nothing, unless allowFewer is set. Confirm
// finds the masters again by new connections, since a connection to an old master may outlive a failover.
func (w *Walk[C]) Confirm(ctx context.Context, before map[string]int, allowFewer bool) error {
	if len(before) == 0 {
		return nil
	}
	fewer, err := w.confirm(ctx, before, allowFewer)
	if err == nil && fewer && !allowFewer {
		_ = sleep.For(ctx, settleReplicas) // confirm returns the error of an ended ctx
		_, err = w.confirm(ctx, before, false)
	}
	return err
}

// confirm waits for the replicas and reports whether a master has fewer of them than before.
func (w *Walk[C]) confirm(ctx context.Context, before map[string]int, allowFewer bool) (fewer bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.Tuning.ConfirmFor, ErrUnconfirmed)
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil && !errors.Is(err, ErrInfoRefused) { // a refusal says nothing about the replicas
			err = context.Cause(ctx)
		}
	}()
	s, done := w.Servers.again(ctx)
	defer done()
	if err := w.confirmMasters(ctx, s); err != nil {
		return false, err
	}
	var targets map[string]int64
	for {
		states, err := RetryValue(ctx, w.Log, "INFO", s.States)
		if err != nil {
			return false, err
		}
		if targets == nil {
			targets = make(map[string]int64, len(states))
			for _, m := range states {
				targets[m.RunID] = m.Offset
			}
		}
		var confirmed bool
		if confirmed, fewer = allConfirmed(states, targets, before, allowFewer); confirmed {
			break
		}
		if sleep.For(ctx, confirmEvery) != nil {
			return false, context.Cause(ctx)
		}
	}
	return fewer, w.confirmMasters(ctx, s)
}

// confirmMasters returns ErrUnconfirmed if the masters are not those that were scanned.
func (w *Walk[C]) confirmMasters(ctx context.Context, s *Servers) error {
	var now []master
	err := w.Retry(ctx, "INFO", func(ctx context.Context) (err error) {
		now, _, err = s.masters(ctx)
		return err
	})
	if err == nil && !w.sameRuns(now) || errors.Is(err, errReplica) {
		return ErrUnconfirmed
	}
	return err
}

// allConfirmed reports whether all replicas of all masters have reached the target of their master, and whether a master
// has fewer of them than before. A master that was promoted during the run may have none. While all of its replicas are being
// filled, it confirms nothing.
func allConfirmed(states []State, targets map[string]int64, before map[string]int, allowFewer bool) (confirmed, fewer bool) {
	most := slices.Max(slices.Collect(maps.Values(before)))
	confirmed = true
	for _, m := range states {
		target, known := targets[m.RunID]
		replicas, old := before[m.RunID]
		lost := m.Online == 0 && replicas > 0
		if !old {
			replicas, lost = most, m.Online == 0 && m.Syncing > 0
		}
		behind := m.Online > 0 && m.Offset-m.LagBytes < target
		confirmed = confirmed && known && !behind && (!lost || allowFewer)
		fewer = fewer || m.Online < replicas
	}
	return confirmed, fewer
}

// again returns the same servers, found by new connections. done closes them.
func (s *Servers) again(ctx context.Context) (found *Servers, done func()) {
	nothing := func() {}
	if s.cluster != nil {
		if c, ok := s.Client.(interface{ ReloadState(ctx context.Context) }); ok {
			c.ReloadState(ctx)
		}
		return s, nothing
	}
	if other := s.reconnected(s.Database()); other != nil {
		return other, func() { _ = other.Client.Close() }
	}
	return s, nothing
}
