//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killAfter starts a command in a process of its own, and kills it after a while. It reports whether the command had ended
// by itself.
func killAfter(t *testing.T, wait time.Duration, args ...string) (ended bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sealcache", args...)
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait() == nil
}

// moments are the times after which a command is killed, from its start until it ends by itself.
func moments(t *testing.T, n int, args ...string) []time.Duration {
	t.Helper()
	began := time.Now()
	require.True(t, killAfter(t, time.Minute, args...))
	whole := time.Since(began)
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = whole * time.Duration(i+1) / time.Duration(n)
	}
	return all
}

// A change that is killed leaves the old keyset or the new one, and nothing that is in the way of the next change.
func TestKilledChangeOfKeyset(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kek   func(t *testing.T) string
		times int
	}{
		"file": {func(t *testing.T) string { t.Helper(); _, kek := kekFile(t); return kek }, 40},
		"passphrase": {func(t *testing.T) string { // deriving the key takes most of the time, under the lock
			t.Helper()
			path := filepath.Join(t.TempDir(), "passphrase")
			require.NoError(t, os.WriteFile(path, []byte("correct-horse-battery"), 0o600))
			return "passphrase:file:" + path
		}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "keyset.json")
			keys := []string{"--kek", test.kek(t), "--keyset", file}
			status, _, log := sealcache(t, "keys", "create", "--kek", keys[1], "--out", file)
			require.Equal(t, exitDone, status, log)
			add := append([]string{"keys", "add"}, keys...)
			for _, wait := range moments(t, test.times, add...) {
				before := len(ids(t, file))
				killAfter(t, wait, add...)
				status, out, log := sealcache(t, append([]string{"keys", "list"}, keys...)...)
				require.Equal(t, exitDone, status, log)
				require.Contains(t, []int{before, before + 1}, strings.Count(out, "\n"))
				require.NoFileExists(t, file+".lock")
			}
			status, _, log = sealcache(t, add...)
			require.Equal(t, exitDone, status, log)
			require.Equal(t, []string{"keyset.json", "keyset.json.times"}, namesIn(t, dir))
		})
	}
}

// A killed "keys create" leaves no file, or a whole one.
func TestKilledCreateOfKeyset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(secret, []byte("correct-horse-battery"), 0o600))
	kek := "passphrase:file:" + secret
	create := func(name string) []string {
		return []string{"keys", "create", "--kek", kek, "--out", filepath.Join(dir, name)}
	}
	whole := 0
	for i, wait := range moments(t, 10, create("first")...) {
		name := "keyset" + string(rune('a'+i))
		killAfter(t, wait, create(name)...)
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			whole++
			status, _, log := sealcache(t, "keys", "list", "--kek", kek, "--keyset", path)
			require.Equal(t, exitDone, status, log)
			continue
		}
		status, _, log := sealcache(t, create(name)...)
		require.Equal(t, exitDone, status, log)
	}
	require.Less(t, whole, 10)
}

// Of two changes at the same time, one may be refused. None is lost.
func TestChangesOfKeysetAtTheSameTime(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "keyset.json")
	status, _, log := sealcache(t, "keys", "create", "--kek", kek, "--out", file)
	require.Equal(t, exitDone, status, log)
	const processes = 12
	done := make(chan error, processes)
	for range processes {
		cmd := exec.CommandContext(t.Context(), "sealcache", "keys", "add", "--kek", kek, "--keyset", file)
		require.NoError(t, cmd.Start())
		go func() { done <- cmd.Wait() }()
	}
	added := 0
	for range processes {
		if <-done == nil {
			added++
		}
	}
	require.Positive(t, added)
	require.Len(t, ids(t, file), added+1)
	require.Equal(t, []string{"keyset.json", "keyset.json.times"}, namesIn(t, dir))
}
