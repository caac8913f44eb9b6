//go:build unix

package redisstore_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
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

// The program that writes into the pipe may hang. A call does not wait longer than its context allows.
func TestFilesThatHangEndWithTheContext(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	defer writer.Close()
	within := func(call func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, call(ctx), context.DeadlineExceeded)
		require.Less(t, time.Since(began), 5*time.Second)
	}
	for _, u := range []string{
		"redis://h?password_file=" + pipe,
		"redis+sentinel://h?master=m&sentinel_password_file=" + pipe,
		"rediss://h?ca_file=" + pipe,
		"rediss://h?cert_file=" + pipe + "&key_file=" + pipe,
	} {
		within(func(ctx context.Context) error { _, err := redisstore.OpenClient(ctx, u); return err })
	}

	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("secret"), 0o600))
	s := open(t, "redis://"+redistest.Start(t).Addr()+"?max_retries=0&password_file="+password)
	require.NoError(t, os.Rename(pipe, password))
	within(func(ctx context.Context) error { _, err := s.Get(ctx, "k"); return err })
}
