package asynqjobs_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A definition of a newer release may say that the job must not run. It stays as it is, until the application calls about its name.
func TestSchedulesOfANewerReleaseAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	old := w.now.Add(-25 * time.Hour).UnixMilli() // old enough to be sealed again
	definition := func(name string, more map[string]any) []byte {
		members := map[string]any{"name": name, "spec": "@every 1m", "type": "bill", "anchor": old, "seed": make([]byte, 32), "sealed": old}
		maps.Copy(members, more)
		b, err := json.Marshal(members)
		require.NoError(t, err)
		return b
	}
	store := func(name string, b []byte) string {
		token, err := w.e.Tokens().Token(asynqwire.ScheduleDomain, []byte(name))
		require.NoError(t, err)
		sealed, err := w.e.Seal(t.Context(), jobs.Meta{Kind: jobs.Schedule, ID: token.String()}, b)
		require.NoError(t, err)
		require.NoError(t, w.rdb.HSet(t.Context(), schedulesKey, token.String(), sealed).Err())
		return token.String()
	}
	known := store("known", definition("known", nil))
	store("member", definition("member", map[string]any{"paused": true}))
	store("option", definition("option", map[string]any{"options": []any{map[string]any{"type": asynq.QueueOpt, "value": "q", "unit": "s"}}}))
	store("cancellation", definition("cancellation", map[string]any{"ended": true, "until": old}))
	store("trailing", append(definition("trailing", nil), "{}"...))
	before := w.save().schedules

	w.run()
	require.Equal(t, []string{"bill "}, w.pending("default"), "the tick of the known one")
	require.Empty(t, w.pending("q"))
	after := w.save().schedules
	require.NotEqual(t, before[known], after[known], "it is sealed again")
	delete(before, known)
	delete(after, known)
	require.Equal(t, before, after)
	infos, err := w.s.List(t.Context())
	require.ErrorIs(t, err, jobs.ErrUnsupportedFormat)
	require.ErrorContains(t, err, "update sealcache")
	require.Len(t, infos, 1)

	require.True(t, w.once("member", asynqjobs.Every(time.Minute), "x"), "a call of the application counts")
	require.True(t, w.cancel(w.s, "option"))
}
