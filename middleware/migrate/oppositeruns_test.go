package migrate_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// halfway starts a run that pauses once it has written entries. end resumes it and returns its result.
func halfway(t *testing.T, rdb redis.UniversalClient, c migrate.Config) (end func() (*migrate.Report, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, Workers: 1, ProgressEvery: time.Millisecond}), 5*time.Minute)
	t.Cleanup(cancel)
	control := new(migrate.Control)
	control.SetRate(60)
	c.Control = control
	var written atomic.Int64
	c.Progress = func(p migrate.Progress) {
		if p.Written > 0 && written.CompareAndSwap(0, p.Written) {
			control.Pause()
		}
	}
	type result struct {
		r   *migrate.Report
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := migratetest.Unproven(ctx, rdb, c)
		done <- result{r, err}
	}()
	require.Eventually(t, func() bool { return written.Load() > 0 }, 2*time.Minute, time.Millisecond)
	return func() (*migrate.Report, error) {
		control.SetRate(0)
		control.Resume()
		r := <-done
		return r.r, r.err
	}
}

// Seal and Unseal of the same names at the same time undo each other's work. Neither is complete if both notice. The one that is
// first to end notices if the other began after it, and the last one always.
func TestOppositeRunsAtTheSameTime(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	a := sealtest.Keyring(t)
	seal := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a}
	unseal := migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: "ns"}, Keys: a}
	reset := func(t *testing.T) {
		t.Helper()
		require.NoError(t, rdb.FlushAll(t.Context()).Err())
		fill(t, rdb, "ns", 600)
	}
	opposed := func(t *testing.T, r *migrate.Report, err error) {
		t.Helper()
		require.ErrorIs(t, err, migrate.ErrOpposed)
		require.False(t, r.Complete)
		require.False(t, r.Done())
	}
	t.Run("one within the other", func(t *testing.T) {
		reset(t)
		c := seal
		c.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
		end := halfway(t, rdb, c)
		run(t, rdb, unseal)
		r, err := end()
		opposed(t, r, err)
		require.NoFileExists(t, c.Checkpoint, "to resume it would skip what was undone")
		require.True(t, run(t, rdb, seal).Done())
	})
	t.Run("one after the other began", func(t *testing.T) {
		reset(t)
		endSeal := halfway(t, rdb, seal)
		endUnseal := halfway(t, rdb, unseal)
		r, err := endSeal()
		opposed(t, r, err)
		r, err = endUnseal()
		opposed(t, r, err)
	})
	t.Run("a stopped run before", func(t *testing.T) {
		reset(t)
		c := seal
		c.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
		interrupted(t, rdb, c, 600)
		const warning = "an earlier run of the opposite operation did not end"
		part := unseal
		part.From.Prefix = "k1"
		require.True(t, run(t, rdb, part).OppositeLeft)
		for _, left := range []bool{true, false} { // a run on a part of the names does not end the warning, a whole run does
			r := run(t, rdb, unseal)
			require.True(t, r.Complete)
			require.Equal(t, left, r.OppositeLeft)
			require.Equal(t, !left, r.Done())
			require.Equal(t, left, strings.Contains(strings.Join(r.Warnings, "\n"), warning), r.Warnings)
		}
	})
	t.Run("a stopped run before, which was repeated", func(t *testing.T) {
		reset(t)
		c := seal
		c.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
		interrupted(t, rdb, c, 600)
		require.True(t, run(t, rdb, seal).Done())
		r := run(t, rdb, unseal)
		require.True(t, r.Done())
		require.Empty(t, r.Warnings)
	})
	t.Run("a run before that is under way", func(t *testing.T) {
		reset(t)
		end := halfway(t, rdb, seal)
		r := run(t, rdb, unseal)
		require.True(t, r.Complete && r.OppositeLeft && !r.Done())
		require.Contains(t, strings.Join(r.Warnings, "\n"), "repeat this run when that one no longer runs")
		_, err := end()
		require.ErrorIs(t, err, migrate.ErrOpposed)
		require.Empty(t, run(t, rdb, unseal).Warnings)
	})
	t.Run("other names, and the same operation", func(t *testing.T) {
		reset(t)
		fill(t, rdb, "other", 600)
		end := halfway(t, rdb, seal)
		u := unseal
		u.From.Namespace = "other"
		run(t, rdb, u)
		part := seal
		part.From.Prefix = "k1"
		run(t, rdb, part)
		r, err := end()
		require.NoError(t, err)
		require.True(t, r.Done())
	})
}
