package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

const canary = "canary-alice@example.com"

// binary is the built program, which the tests run and signal.
var binary string // set once, by TestMain

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "example-fx")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "service")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// cleanEnv returns the environment without settings of the service.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "SEALCACHE_") || strings.HasPrefix(v, "PROFILES_")
	})
}

// service is the program as a process.
type service struct {
	url    string
	cmd    *exec.Cmd
	mu     sync.Mutex
	stderr bytes.Buffer
	done   chan error
}

// run starts the program with settings and waits until it listens.
func run(t *testing.T, settings ...string) *service {
	t.Helper()
	s := &service{cmd: exec.Command(binary), done: make(chan error, 1)} // a signal stops it
	s.cmd.Env = append(append(cleanEnv(), "LISTEN=127.0.0.1:0"), settings...)
	pipe, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	address := make(chan string, 1)
	go func() {
		listening := regexp.MustCompile(`msg=listening address=(\S+)`)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			s.mu.Lock()
			s.stderr.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		s.done <- s.cmd.Wait()
	}()
	select {
	case a := <-address:
		s.url = "http://" + a
	case err := <-s.done:
		t.Fatalf("it ended: %v\n%s", err, s.log())
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not listen\n%s", s.log())
	}
	return s
}

func (s *service) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

// stop ends the program as a platform does. The program must end without an error.
func (s *service) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.done:
		require.NoError(t, err, s.log())
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not stop\n%s", s.log())
	}
}

func (s *service) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err, s.log())
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// requireWorks calls every endpoint of the service.
func (s *service) requireWorks(t *testing.T) {
	t.Helper()
	profile := `{"name":"Alice","email":"` + canary + `"}`
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/healthz", "", http.StatusOK, ""},
		{"GET", "/readyz", "", http.StatusOK, `{"status":"ok","caches":{"default":"ok"}}`},
		{"GET", "/profiles/42", "", http.StatusNotFound, "there is no profile with this id"},
		{"PUT", "/profiles/42", profile, http.StatusNoContent, ""},
		{"GET", "/profiles/42", "", http.StatusOK, profile},
		{"PUT", "/profiles/42", "{", http.StatusBadRequest, "the body must be a JSON object with name and email"},
		{"DELETE", "/profiles/42", "", http.StatusMethodNotAllowed, "Method Not Allowed"},
	} {
		status, body := s.ask(t, c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s: %s\n%s", c.method, c.path, body, s.log())
		require.Equal(t, c.want, strings.TrimSpace(body), "%s %s", c.method, c.path)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s := run(t)
	s.requireWorks(t)
	s.stop(t)
	require.NotContains(t, s.log(), canary)
}

func TestRedis(t *testing.T) {
	t.Parallel()
	const password, passphrase = "redis-password-canary", "passphrase-canary-long-enough"
	server := redistest.StartWith(t, redistest.Options{Password: password, AppendOnly: true})
	monitor := server.Monitor(t)
	settings := []string{"SEALCACHE_STORE=" + server.URL() + "?max_retries=0", "PROFILES_PASSPHRASE=" + passphrase}
	s := run(t, settings...)
	s.requireWorks(t)
	s.stop(t)

	// The next process reads the entries of this one.
	s = run(t, settings...)
	status, body := s.ask(t, "GET", "/profiles/42", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, canary)

	// An altered value is not returned.
	rdb := server.Client(t)
	require.NoError(t, rdb.Copy(t.Context(), "profiles:42", "profiles:43", 0, true).Err())
	require.NoError(t, rdb.Set(t.Context(), "profiles:44", `{"name":"Mallory"}`, 0).Err())
	for _, path := range []string{"/profiles/43", "/profiles/44"} {
		status, body = s.ask(t, "GET", path, "")
		require.Equal(t, http.StatusInternalServerError, status)
		require.Equal(t, "the profile cannot be read", strings.TrimSpace(body))
	}

	// Redis received and keeps no plaintext.
	said := string(monitor.Bytes(t))
	require.Contains(t, said, "profiles:42")
	for name, content := range server.DumpFiles(t) {
		require.NotContains(t, string(content), canary, name)
		require.NotContains(t, string(content), passphrase, name)
	}
	require.NotContains(t, said, canary)
	require.NotContains(t, said, passphrase)

	// Without Redis the service is alive and not ready.
	require.NoError(t, server.Kill())
	status, body = s.ask(t, "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"status":"failing","caches":{"default":"store"}}`, body)
	status, _ = s.ask(t, "GET", "/healthz", "")
	require.Equal(t, http.StatusOK, status)
	status, _ = s.ask(t, "GET", "/profiles/42", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NoError(t, server.Restart())
	require.Eventually(t, func() bool {
		status, _ := s.ask(t, "GET", "/readyz", "")
		return status == http.StatusOK
	}, 2*time.Minute, 20*time.Millisecond)
	_, body = s.ask(t, "GET", "/profiles/42", "")
	require.Contains(t, body, canary)
	s.stop(t)
	for _, secret := range []string{canary, password, passphrase} {
		require.NotContains(t, s.log(), secret)
	}
}

// A failed start names the cache and the part, and shows no password.
func TestNoRedis(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(cleanEnv(), "LISTEN=127.0.0.1:0", "PROFILES_PASSPHRASE=passphrase-canary-long-enough",
		"SEALCACHE_STORE=redis://:password-canary@127.0.0.1:1?max_retries=0&dial_timeout=1s")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), `fxmodule: cache \"default\": store:`)
	require.NotContains(t, string(out), "password-canary")
}

// Under a key of one process, the next process could not read the entries.
func TestRedisWithoutAPassphrase(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(cleanEnv(), "LISTEN=127.0.0.1:0", "SEALCACHE_STORE=redis://127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), "set PROFILES_PASSPHRASE")
}
