package asynqjobs_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

const schedulesKey, ticksKey = "{sealcache:jobs:}:schedules", "{sealcache:jobs:}:ticks"

// rotation is a keyset that changes under a clockwork.
type rotation struct {
	*clockwork
	m    *keyset.Manager
	opts []jobs.Option
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{clockwork: newClockwork(t), m: keyset.NewManager(), opts: []jobs.Option{jobs.WithPRF(newPRF(t))}}
	r.primary()
	return r
}

// primary adds a key and makes it primary.
func (r *rotation) primary() (old uint32) {
	r.t.Helper()
	if h, err := r.m.Handle(); err == nil {
		e, err := h.Primary()
		require.NoError(r.t, err)
		old = e.KeyID()
	}
	id, err := r.m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(r.t, err)
	require.NoError(r.t, r.m.SetPrimary(id))
	r.restart()
	return old
}

// restart is another process with the keyset as it is.
func (r *rotation) restart() {
	r.t.Helper()
	h, err := r.m.Handle()
	require.NoError(r.t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(r.t, err)
	r.e = newEncryptor(r.t, k, r.opts...)
	r.c, r.s = r.with(r.e)
}

func (r *rotation) raw() string {
	r.t.Helper()
	vals := r.rdb.HVals(r.t.Context(), schedulesKey).Val()
	require.Len(r.t, vals, 1)
	return vals[0]
}

// A schedule outlives the key that it was sealed under, with its anchor, its ids and its last tick.
func TestSchedulesAreSealedAgainWhenRegistered(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	raw := r.raw()
	require.False(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	require.Equal(t, raw, r.raw(), "nothing to do")
	r.advance(90 * time.Second)
	r.run()
	require.Len(t, r.pending("default"), 1)

	old := r.primary()
	require.False(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	require.NotEqual(t, raw, r.raw())
	require.NoError(t, r.m.Delete(old))
	r.restart()
	r.run()
	require.Empty(t, r.pending("default"), "the last tick was kept")
	r.advance(30 * time.Second)
	r.run()
	require.Len(t, r.pending("default"), 1, "and the anchor")

	raw = r.raw()
	r.advance(25 * time.Hour)
	require.False(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	require.NotEqual(t, raw, r.raw(), "once a day, also under another key")
}

// No process registers it again, but one runs.
func TestSchedulesAreSealedAgainWhileTheyRun(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	require.True(t, r.once("a", asynqjobs.Every(40*time.Minute), "x"))
	raw := r.raw()
	old := r.primary()
	r.advance(40 * time.Minute)
	r.run()
	require.Len(t, r.pending("default"), 1)
	require.Equal(t, raw, r.raw(), "not at once: processes may differ in the primary")
	r.advance(30 * time.Minute)
	_, other := r.with(r.e)
	r.run(r.s, other)
	require.NotEqual(t, raw, r.raw())
	require.NoError(t, r.m.Delete(old))
	r.restart()
	r.run()
	require.Empty(t, r.pending("default"))
	r.advance(10 * time.Minute)
	r.run()
	require.Len(t, r.pending("default"), 1)

	raw = r.raw()
	r.advance(2 * time.Hour)
	r.run()
	require.Equal(t, raw, r.raw(), "under the primary")
	r.advance(23 * time.Hour)
	r.run()
	require.NotEqual(t, raw, r.raw(), "once a day")
}

// So are cancellations. Otherwise one would prevent that a key is destroyed, or be lost with it.
func TestCancellationsAreSealedAgain(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	require.True(t, r.cancel(r.s, "a"))
	raw := r.raw()
	old := r.primary()
	r.advance(70 * time.Minute)
	r.run()
	require.NotEqual(t, raw, r.raw())
	require.NoError(t, r.m.Delete(old))
	r.restart()
	require.False(t, r.cancel(r.s, "a"), "it opens")
}

// A schedule under an unknown key, forged or deleted, does not prevent a start.
func TestSchedulesOfUnknownKeysAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	old := r.primary()
	require.NoError(t, r.m.Delete(old))
	r.restart()
	_, err := r.s.List(t.Context())
	require.ErrorIs(t, err, jobs.ErrUnknownKey)
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "x"))
	r.advance(time.Minute)
	r.run()
	require.Len(t, r.pending("default"), 1)
}

// Changes are whole and are noticed, also if the new version has any other bytes.
func TestPoisonedVersions(t *testing.T) {
	t.Parallel()
	for _, poison := range []string{"zzz", "9223372036854775807", ""} {
		w := newClockwork(t)
		w.once("a", asynqjobs.Every(time.Minute), "a")
		require.NoError(t, w.rdb.HSet(t.Context(), ticksKey, "version", poison).Err())
		require.True(t, w.once("b", asynqjobs.Every(time.Minute), "b"), poison)
		version := w.rdb.HGet(t.Context(), ticksKey, "version").Val()
		require.NotEqual(t, poison, version)
		canceled, err := w.s.Cancel(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, canceled)
		require.NotEqual(t, version, w.rdb.HGet(t.Context(), ticksKey, "version").Val(), "at the same time of the server, too")
		require.Equal(t, []string{"b"}, w.names(w.s))

		// Where no version can be written, nothing is changed.
		stored := w.rdb.HGetAll(t.Context(), schedulesKey).Val()
		require.NoError(t, w.rdb.Set(t.Context(), ticksKey, "text", 0).Err())
		_, err = w.s.Cancel(t.Context(), "b")
		require.Error(t, err)
		require.Equal(t, stored, w.rdb.HGetAll(t.Context(), schedulesKey).Val())
	}
}

// lateClock has a Redis answer with the last time there is.
type lateClock struct{ refusing }

func (lateClock) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if poll, ok := cmd.(*redis.Cmd); ok && err == nil && strings.HasSuffix(strings.Join(fields(cmd.Args()), " "), " 1 "+ticksKey) {
			last := time.UnixMilli(math.MaxInt64)
			poll.SetVal([]any{fmt.Sprint(last.Unix()), fmt.Sprint(last.Nanosecond() / 1000), []any{}})
		}
		return err
	}
}

// A false time of Redis cannot have a call take the last version there is. No later call could then count.
func TestTimeOfRedisIsBounded(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.rdb.AddHook(lateClock{})
	_, err := tick.ScheduleOnce(t.Context(), w.s, "a", asynqjobs.Every(time.Minute), tickArgs{})
	require.ErrorContains(t, err, "unexpected reply")
	w.rdb = redis.NewClient(patient(w.m.Addr()))
	defer w.rdb.Close()
	_, other := w.with(w.e)
	w.cancel(other, "a")
	w.run(other)
	require.Empty(t, w.names(other))
}

// A schedule whose PRF key is gone is still found by its name: it is ended, and does not run next to its successor.
func TestSchedulesWithoutTheirPRFKey(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	another := func() {
		r.opts = []jobs.Option{jobs.WithPRF(newPRF(t))}
		r.restart()
	}
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "old"))
	require.True(t, r.once("b", asynqjobs.Every(time.Hour), "b"))
	another()
	require.False(t, r.once("a", asynqjobs.Every(time.Minute), "old"), "moved")
	another()
	require.True(t, r.once("a", asynqjobs.Every(time.Minute), "new"), "replaced")
	require.EqualValues(t, 2, r.rdb.HLen(t.Context(), schedulesKey).Val())
	another()
	canceled, err := r.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled)
	infos, err := r.s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
	require.Equal(t, "b", infos[0].Name)
	r.advance(5 * time.Minute)
	r.run()
	require.Empty(t, r.pending("default"))
}

// While the key service is down it is not known whose schedules there are. An Envelope still seals then.
func TestCancelDuringAnOutage(t *testing.T) {
	t.Parallel()
	w, g := gated(t)
	w.once("a", asynqjobs.Every(time.Minute), "a")
	g.fail.Store(&jobs.ErrKeyServiceUnavailable)
	canceled, err := w.s.Cancel(t.Context(), "b")
	require.NoError(t, err, "it knows the only one there is")
	require.False(t, canceled)
	_, w.s = w.with(w.e)
	_, err = w.s.Cancel(t.Context(), "c")
	require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable)
	canceled, err = w.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled, "its field is known")
}
