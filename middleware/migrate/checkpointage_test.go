package migrate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// rewrite changes a checkpoint as the owner of its keys could.
func rewrite(t *testing.T, file string, a tink.AEADWithContext, namespace string, change func(content map[string]json.RawMessage)) {
	t.Helper()
	const name = "sealcache.checkpoint"
	var outer struct {
		Format int    `json:"format"`
		Sealed []byte `json:"sealed"`
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &outer))
	b, err := box.New(a, wire.KeyCheck, namespace)
	require.NoError(t, err)
	plaintext, err := b.Open(t.Context(), outer.Sealed, wire.HeaderSize, false, name)
	require.NoError(t, err)
	var content map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(plaintext, &content))
	change(content)
	plaintext, err = json.Marshal(content)
	require.NoError(t, err)
	outer.Sealed, err = b.Seal(t.Context(), nil, wire.Header{Type: wire.JSON}, plaintext, name)
	require.NoError(t, err)
	data, err = json.Marshal(outer)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))
}

// A value that the application seals does not count as a checkpoint under any key.
func TestCheckpointSealedByTheApplication(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n = 300
	fill(t, rdb, "ns", n)
	a := sealtest.Keyring(t)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a, Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	const name = "sealcache.checkpoint"
	var outer struct {
		Format int    `json:"format"`
		Sealed []byte `json:"sealed"`
	}
	data, err := os.ReadFile(c.Checkpoint)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &outer))
	b, err := box.New(a, wire.KeyCheck, "ns")
	require.NoError(t, err)
	plaintext, err := b.Open(t.Context(), outer.Sealed, wire.HeaderSize, false, name)
	require.NoError(t, err)
	app := migratetest.SealedStore(t, rdb, a, "ns", middleware.WithCodec(middleware.JSON[json.RawMessage]()))
	require.NoError(t, app.Set(t.Context(), name, json.RawMessage(plaintext)))
	outer.Sealed = stored(t, rdb, "ns:"+name)
	for _, kind := range []byte{outer.Sealed[3], byte(wire.KeyCheck)} {
		outer.Sealed[3] = kind
		data, err = json.Marshal(outer)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(c.Checkpoint, data, 0o600))
		_, err = migratetest.Unproven(t.Context(), rdb, c)
		require.ErrorIs(t, err, migrate.ErrCheckpoint)
	}
}

// A checkpoint is refused when it is older than a week, or from the future.
func TestCheckpointAge(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n, day = 300, 24 * time.Hour
	fill(t, rdb, "ns", n)
	a := sealtest.Keyring(t)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a, Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	written := func(age time.Duration) {
		rewrite(t, c.Checkpoint, a, "ns", func(content map[string]json.RawMessage) {
			at, err := json.Marshal(time.Now().Add(-age))
			require.NoError(t, err)
			content["updated"] = at
		})
	}
	for _, age := range []time.Duration{7*day + time.Minute, 365 * day, -2 * time.Hour} {
		written(age)
		r, err := migratetest.Unproven(t.Context(), rdb, c)
		require.ErrorIs(t, err, migrate.ErrCheckpoint, age)
		require.Zero(t, r.Seen)
		require.FileExists(t, c.Checkpoint)
	}
	written(7*day - time.Hour)
	r := run(t, rdb, c)
	require.Equal(t, 2, r.Runs)
	require.True(t, r.Done())
}

// A copy of the checkpoint of a run that is complete is refused: the application may have written plaintext since.
func TestCheckpointOfACompleteRun(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n = 300
	fill(t, rdb, "ns", n)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	copied, err := os.ReadFile(c.Checkpoint)
	require.NoError(t, err)
	require.True(t, run(t, rdb, c).Done())
	fill(t, rdb, "ns", n) // the application was rolled back
	require.NoError(t, os.WriteFile(c.Checkpoint, copied, 0o600))
	r, err := migratetest.Unproven(t.Context(), rdb, c)
	require.ErrorIs(t, err, migrate.ErrCheckpoint)
	require.False(t, r.Complete)
	require.NoError(t, os.Remove(c.Checkpoint))
	require.EqualValues(t, n, run(t, rdb, c).Written)
}
