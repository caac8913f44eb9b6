package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A run that is interrupted goes on with the same command if the old keys are a KEK that may only decrypt.
func TestResumeWithAnOldKEK(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, dir := server.Client(t), t.TempDir()
	const n = 200
	for i := range n {
		require.NoError(t, client.Set(t.Context(), fmt.Sprint("shop:", i), "v", 0).Err())
	}
	passphrase := func(name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("a long passphrase, "+name), 0o600))
		return "passphrase:file:" + path
	}
	old, kek := passphrase("old"), passphrase("new")
	at := []string{"--redis", server.URL(), "--namespace", "shop", "--allow-unproven"}
	status, _, log := sealcache(t, append([]string{"migrate", "--kek", old}, at...)...)
	require.Equal(t, exitDone, status, log)

	checkpoint := filepath.Join(dir, "checkpoint")
	reseal := append([]string{"reseal", "--kek", kek, "--old-kek", old, "--checkpoint", checkpoint}, at...)
	cmd := exec.CommandContext(t.Context(), "sealcache", append(reseal, "--rate", "20")...)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(checkpoint); return err == nil }, time.Minute, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait(), "the run was to be interrupted")
	require.FileExists(t, checkpoint)
	status, _, log = sealcache(t, reseal...)
	require.Equal(t, exitDone, status, log)
	status, _, log = sealcache(t, "audit", "--redis", server.URL(), "--namespace", "shop")
	require.Equal(t, exitDone, status, log)
}
