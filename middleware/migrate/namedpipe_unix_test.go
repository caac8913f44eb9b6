//go:build unix

package migrate_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// The checkpoint may be a named pipe without a writer. The run must fail then, and not wait for one.
func TestCheckpointIsANamedPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: t.Name()}, Keys: sealtest.Keyring(t), Checkpoint: pipe}
	rdb := shared.Single.Client(t)
	ended := make(chan error, 1)
	go func() {
		_, err := migratetest.Unproven(t.Context(), rdb, c)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, migrate.ErrCheckpoint)
		require.ErrorContains(t, err, "it is not a regular file")
	case <-time.After(time.Minute):
		t.Fatal("the run waits for a writer")
	}
}
