//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// A run and an audit are watched, paused and resumed by signals, and steered by a control file. Progress is JSON, one object on
// each line.
func TestSteer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	_, kek := kekFile(t)
	for i := range 3000 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("shop:", i), "value", 0).Err())
	}
	t.Run("plan", func(t *testing.T) {
		steered(t, exitDone, "plan", "--redis", server.URL(), "--namespace", "shop")
	})
	t.Run("audit", func(t *testing.T) { // before the migration: it counts the plaintext
		steered(t, exitLeft, "audit", "--redis", server.URL(), "--namespace", "shop")
	})
	t.Run("migrate", func(t *testing.T) {
		steered(t, exitDone, "migrate", "--redis", server.URL(), "--kek", kek, "--namespace", "shop", "--allow-unproven")
		require.NotEqual(t, "value", rdb.Get(t.Context(), "shop:2999").Val())
	})
}

// steered runs a command that finds 3,000 plaintext values, and steers it. It must end with a status.
func steered(t *testing.T, status int, args ...string) {
	t.Helper()
	control := filepath.Join(t.TempDir(), "control")
	require.NoError(t, syscall.Mkfifo(control+".pipe", 0o600))
	for _, other := range []string{control + ".pipe", filepath.Dir(control), "/dev/zero"} { // reading would block, fail or never end
		err := exec.CommandContext(t.Context(), "sealcache", append(args, "--control", other)...).Run()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, exitUsage, exit.ExitCode(), other)
	}
	cmd := exec.CommandContext(t.Context(), "sealcache", append(args, "--rate", "50", "--control", control, "--progress", "json")...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	kill := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(stderr)
	// until returns the first line that is as wanted.
	until := func(wanted func(line string) bool) string {
		t.Helper()
		for lines.Scan() {
			if wanted(lines.Text()) {
				return lines.Text()
			}
		}
		require.Fail(t, "the run ended")
		return ""
	}
	state := func(line string) (s progress) {
		_ = json.Unmarshal([]byte(line), &s)
		return s
	}
	first := state(until(func(string) bool { return true }))
	require.Equal(t, args[0], first.Command)
	require.Equal(t, args[0] != "audit", first.Phase != "")
	until(func(line string) bool { return state(line).Seen > 0 })

	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	until(func(line string) bool {
		return strings.HasPrefix(line, args[0]+": ") && strings.Contains(line, " seen")
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR2))
	until(func(line string) bool { return strings.HasPrefix(line, "paused") })
	until(func(line string) bool { return len(state(line).Paused) > 0 })
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR2))
	until(func(line string) bool { return line == "resumed" })

	require.NoError(t, os.WriteFile(control, []byte("nonsense\n"), 0o600))
	until(func(line string) bool { return strings.Contains(line, "a line of the file is unknown") })
	require.NoError(t, os.WriteFile(control, []byte("more nonsense\npause\n"), 0o600))
	until(func(line string) bool {
		require.NotContains(t, line, "applied", "no line of the first file is known")
		return strings.Contains(line, "a line of the file is unknown")
	})
	until(func(line string) bool { return strings.Contains(line, "the file was applied") })
	until(func(line string) bool { return len(state(line).Paused) > 0 })
	// The signal changes what the file has set.
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR2))
	until(func(line string) bool { return line == "resumed" })
	require.NoError(t, os.WriteFile(control, []byte("resume\nrate 1000000\n"), 0o600))
	for lines.Scan() {
		require.NotContains(t, lines.Text(), "shop:")
	}
	_ = cmd.Wait()
	require.Equal(t, status, cmd.ProcessState.ExitCode())
}

// A command ends the bar once, although it also ends the bar when it returns.
func TestBarEndsOnce(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	o := &outputFlags{progress: "bar"}
	show, done := o.follow(&program{stderr: &stderr}, "", new(audit.Control))
	show(progress{final: true})
	done()
	ended := stderr.String()
	done()
	require.Equal(t, ended, stderr.String())
}
