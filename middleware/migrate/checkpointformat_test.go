package migrate

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// A checkpoint may be anything, too, and what is written can be read.
func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{Format: checkpointFormat, Job: "job", Positions: map[string]rediswalk.Position{"run": {Cursor: 1 << 63, Done: true}}, Started: time.Unix(1, 0).UTC()}
	good, err := json.Marshal(c)
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseCheckpoint(b, "job")
		if err != nil {
			require.ErrorIs(t, err, ErrCheckpoint)
			return
		}
		one, err := json.Marshal(got)
		require.NoError(t, err)
		again, err := parseCheckpoint(one, "job")
		require.NoError(t, err)
		two, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(one), string(two))
	})
}
