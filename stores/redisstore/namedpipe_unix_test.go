//go:build unix

package redisstore_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/redisstore"
)

// A file that a URL names may be a named pipe without a writer. Opening the URL must fail then, and not wait for one.
func TestOpenNamedPipes(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for _, u := range []string{
		"redis://h?password_file=" + pipe,
		"redis+sentinel://h?master=m&sentinel_password_file=" + pipe,
		"rediss://h?ca_file=" + pipe,
		"rediss://h?cert_file=" + pipe + "&key_file=" + pipe,
	} {
		opened := make(chan error, 1)
		go func() {
			_, err := redisstore.OpenClient(t.Context(), u)
			opened <- err
		}()
		select {
		case err := <-opened:
			require.ErrorContains(t, err, "the named pipe is empty", u)
		case <-time.After(time.Minute):
			t.Fatalf("%s: the call waits for a writer", u)
		}
	}
}
