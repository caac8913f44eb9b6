//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killAfter starts a command in its own process, and kills it after a while. It reports whether the command had ended
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
	require.True(t, killAfter(t, 5*time.Minute, args...))
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
				require.Contains(t, []int{before, before + 1}, strings.Count(out, "\n")-1) // one line names the file
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
	tries, none := 0, 0
	try := func(wait time.Duration) {
		name := fmt.Sprint("keyset", tries)
		tries++
		killAfter(t, wait, create(name)...)
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			status, _, log := sealcache(t, "keys", "list", "--kek", kek, "--keyset", path)
			require.Equal(t, exitDone, status, log)
			return
		}
		none++
		status, _, log := sealcache(t, create(name)...)
		require.Equal(t, exitDone, status, log)
	}
	for _, wait := range moments(t, 10, create("first")...) {
		try(wait)
	}
	for none == 0 { // the first command took so long that all moments were too late
		require.Less(t, tries, 100)
		try(time.Millisecond)
	}
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

// Every other command that changes a keyset leaves the old keyset or the new one as well, whenever it is killed, and times that
// authenticate.
func TestKilledKeyCommands(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	_, next := kekFile(t)
	origin := t.TempDir()
	file := filepath.Join(origin, "keyset.json")
	change := func(args ...string) {
		t.Helper()
		status, _, log := sealcache(t, append(args, "--kek", kek, "--keyset", file)...)
		require.Equal(t, exitDone, status, log)
	}
	status, _, log := sealcache(t, "keys", "create", "--kek", kek, "--out", file)
	require.Equal(t, exitDone, status, log)
	change("keys", "add")
	change("keys", "add")
	all := ids(t, file)
	change("keys", "disable", all[2])

	times := regexp.MustCompile(`made .*|keyset /.*`) // the times are in a separate file, which the next command completes
	list := func(t *testing.T, file, kek string) (string, bool) {
		t.Helper()
		status, out, _ := sealcache(t, "keys", "list", "--kek", kek, "--keyset", file)
		require.NotContains(t, out, "age unknown")
		return times.ReplaceAllString(out, ""), status == exitDone
	}
	for name, args := range map[string][]string{
		"promote": {"keys", "promote", all[1]},
		"disable": {"keys", "disable", all[1]},
		"enable":  {"keys", "enable", all[2]},
		"destroy": {"keys", "destroy", "--yes", all[2]},
		"rewrap":  {"keys", "rewrap", "--to-kek", next},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fresh := func() (string, []string) {
				dir := t.TempDir()
				for _, name := range namesIn(t, origin) {
					data, err := os.ReadFile(filepath.Join(origin, name))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
				}
				path := filepath.Join(dir, "keyset.json")
				return path, append(append([]string(nil), args...), "--kek", kek, "--keyset", path)
			}
			path, whole := fresh()
			before, ok := list(t, path, kek)
			require.True(t, ok)
			waits := moments(t, 8, whole...)
			after, ok := list(t, path, kek)
			if name == "rewrap" {
				require.False(t, ok, "the old KEK still opens it")
				after, ok = list(t, path, next)
			}
			require.True(t, ok)
			for _, wait := range waits {
				path, whole := fresh()
				killAfter(t, wait, whole...)
				now, ok := list(t, path, kek)
				if !ok && name == "rewrap" {
					now, ok = list(t, path, next)
				}
				require.True(t, ok, "killed after %v", wait)
				require.Contains(t, []string{before, after}, now, "killed after %v", wait)
			}
		})
	}
}

// A killed "kek create" leaves no file, or a whole keyset.
func TestKilledKEKCreate(t *testing.T) {
	t.Parallel()
	uri := func(dir string) string { return "file://" + filepath.ToSlash(filepath.Join(dir, "kek.json")) }
	for _, wait := range moments(t, 10, "kek", "create", uri(t.TempDir())) {
		dir := t.TempDir()
		killAfter(t, wait, "kek", "create", uri(dir))
		if _, err := os.Stat(filepath.Join(dir, "kek.json")); err != nil {
			status, _, log := sealcache(t, "kek", "create", uri(dir))
			require.Equal(t, exitDone, status, log)
		}
		status, _, log := sealcache(t, "kek", "check", uri(dir))
		require.Equal(t, exitDone, status, log)
	}
}
