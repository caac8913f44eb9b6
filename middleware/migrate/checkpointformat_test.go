package migrate

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checkpoint file may hold anything.
func FuzzCheckpoint(f *testing.F) {
	good, err := json.Marshal(checkpointFile{checkpointFormat, []byte("sealed")})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed, err := parseFile(b)
		if err != nil {
			require.ErrorIs(t, err, ErrCheckpoint)
			return
		}
		one, err := json.Marshal(checkpointFile{checkpointFormat, sealed})
		require.NoError(t, err)
		again, err := parseFile(one)
		require.NoError(t, err)
		require.Equal(t, sealed, again)
	})
}
