//go:build unix

package vaulttest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores"
)

// rotation is a service of three processes under load, one Redis, one transit engine, and an operator with the command.
type rotation struct {
	engine    *engine
	server    *servertest.Server
	redis     *redistest.Server
	keyset    string // the file; empty if the transit key wraps the data keys itself
	env       []string
	processes []*process
	delay     atomic.Int64 // of each call to the engine
}

// command returns the sealcache command, built once.
var command = sync.OnceValues(func() (string, error) {
	path := os.Getenv(commandVariable)
	out, err := exec.Command("go", "build", "-C", "../../../cmd/sealcache", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func newRotation(t *testing.T, withKeyset bool, limit string) *rotation {
	t.Helper()
	r := &rotation{engine: newEngine(t), redis: redistest.Start(t)}
	r.engine.create("cache")
	r.server = servertest.New(t, func(path string, body map[string]any) (int, map[string]any, []string) {
		time.Sleep(time.Duration(r.delay.Load()))
		return r.engine.handle(path, body)
	}, false, token)
	r.env = append(environ(), "VAULT_ADDR="+r.server.URL(), "VAULT_TOKEN="+token,
		"SEALCACHE_KEK="+keyURI, "SEALCACHE_STORE="+r.redis.URL(), "SEALCACHE_NAMESPACE=shop", limitVariable+"="+limit)
	if withKeyset {
		r.keyset = filepath.Join(t.TempDir(), "keyset.json")
		r.sealcache(t, "keys", "create", "--out", r.keyset)
		r.env = append(r.env, "SEALCACHE_KEYSET="+r.keyset)
	}
	return r
}

// environ returns the environment of the test without settings of Vault and sealcache.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "VAULT_") || strings.HasPrefix(v, "SEALCACHE_")
	})
}

// sealcache runs the command, which must succeed, and returns its output.
func (r *rotation) sealcache(t *testing.T, args ...string) string {
	t.Helper()
	path, err := command()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = r.env
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sealcache %q: %v\n%s%s", args, err, out, log.String())
	}
	return string(out)
}

// start starts the processes, and waits until each of them works.
func (r *rotation) start(t *testing.T) {
	t.Helper()
	for i := range 3 {
		r.processes = append(r.processes, startProcess(t, i, r.env))
	}
	r.work(t)
}

// everywhere waits until a condition holds for each process, and checks that no operation has failed.
func (r *rotation) everywhere(t *testing.T, what string, holds func(before, now status) bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for _, p := range r.processes {
		before := p.ask(t)
		for now := before; !holds(before, now); now = p.ask(t) {
			if now.Failures > 0 {
				t.Fatalf("%s: process %d: %d of %d operations failed: %s", what, p.number, now.Failures, now.Operations, now.Error)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: process %d: timed out: %+v", what, p.number, now)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// work waits until each process has done some operations of each kind.
func (r *rotation) work(t *testing.T) {
	t.Helper()
	r.everywhere(t, "work", func(before, now status) bool { return now.Operations > before.Operations+200 })
}

// end stops the processes. No operation may have failed, and every value must open in a new process.
func (r *rotation) end(t *testing.T) {
	t.Helper()
	r.work(t)
	total := 0
	for _, p := range r.processes {
		last := p.stop(t)
		if last.Failures > 0 || last.Operations == 0 {
			t.Errorf("process %d: %d of %d operations failed: %s", p.number, last.Failures, last.Operations, last.Error)
		}
		total += last.Operations
	}
	_, _, requests := r.server.Counts()
	t.Logf("%d operations, none failed; %d requests to the key service", total, requests)
	r.processes = nil
	r.sealcache(t, "audit", "--open", "--progress", "none") // status 0: all open
}

// rotate runs "keys rotate" until it reports the action, as cron does, and returns the key.
func (r *rotation) rotate(t *testing.T, action string, args ...string) uint32 {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var report struct {
			Actions []struct {
				Action string
				Key    uint32 `json:"key_id"`
			}
			Waiting []string
		}
		out := r.sealcache(t, append([]string{"keys", "rotate", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		for _, a := range report.Actions {
			if a.Action != action {
				t.Fatalf("%s key %d, want %s", a.Action, a.Key, action)
			}
			return a.Key
		}
		if time.Now().After(deadline) {
			t.Fatalf("no key is %s: %q", action, report.Waiting)
		}
		r.work(t)
	}
}

// The rotation chapter over a keyset that Vault seals: add, settle, promote, reseal, disable, audit, destroy. Then Vault's own
// key is rotated, and its first version is retired.
func TestKeysetRotationUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRotation(t, true, "")
	r.start(t)
	old := r.processes[0].ask(t).Primary

	next := r.rotate(t, "added", "--every", "1s", "--settle", "500ms")
	r.everywhere(t, "the new key", func(_, now status) bool { return slices.Contains(now.Keys, next) })
	if got := r.rotate(t, "promoted", "--every", "1h", "--settle", "500ms"); got != next {
		t.Fatalf("key %d is promoted, want %d", got, next)
	}
	promoted := time.Now()
	r.everywhere(t, "the new primary key", func(_, now status) bool { return now.Primary == next })
	since := time.Now()
	r.work(t)
	r.sealcache(t, "reseal", "--checkpoint", filepath.Join(t.TempDir(), "reseal.checkpoint"), "--progress", "none")
	disabled := r.rotate(t, "disabled", "--every", "1h", "--settle", "1s", "--disable-unused", "--store", r.redis.URL())
	if disabled != old {
		t.Fatalf("key %d is disabled, want %d", disabled, old)
	}
	r.everywhere(t, "the disabled key", func(_, now status) bool { return !slices.Contains(now.Keys, old) })
	report := filepath.Join(t.TempDir(), "destroy.json")
	if !since.After(promoted) {
		t.Fatal("the clock stands still")
	}
	r.sealcache(t, "audit", "--may-destroy", fmt.Sprint(old), "--not-primary-since", since.UTC().Format(time.RFC3339Nano),
		"--reload", "100ms", "--report", report, "--progress", "none")
	certificate := r.sealcache(t, "keys", "destroy", "--audited", report, fmt.Sprint(old))
	if !strings.Contains(certificate, fmt.Sprint(old)) {
		t.Errorf("the certificate does not name the key: %s", certificate)
	}
	r.work(t)
	if list := r.sealcache(t, "keys", "list"); strings.Contains(list, fmt.Sprint(old)) || !strings.Contains(list, fmt.Sprint(next)) {
		t.Errorf("the old key is still there:\n%s", list)
	}

	r.engine.do(logical.UpdateOperation, "keys/cache/rotate", nil)
	r.work(t)
	r.sealcache(t, "keys", "rewrap")
	r.engine.do(logical.UpdateOperation, "keys/cache/config", map[string]any{"min_decryption_version": 2})
	added := r.rotate(t, "added", "--every", "1s", "--settle", "500ms") // its keyset opens under the new version only
	r.everywhere(t, "a keyset of the new version", func(_, now status) bool { return slices.Contains(now.Keys, added) })
	r.end(t)
}

// Vault's key wraps the data keys themselves. It is rotated, values are sealed again, and the first version is retired.
func TestTransitRotationUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRotation(t, false, "2s") // data keys change and are confirmed all the time
	r.start(t)
	r.engine.do(logical.UpdateOperation, "keys/cache/rotate", nil)
	r.everywhere(t, "a data key of the new version", func(before, now status) bool { return now.Wraps > before.Wraps+1 })
	r.sealcache(t, "reseal", "--checkpoint", filepath.Join(t.TempDir(), "reseal.checkpoint"), "--progress", "none")
	rdb := r.redis.Client(t)
	keys, err := rdb.Keys(t.Context(), "shop:*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d values, %v", len(keys), err)
	}
	for _, key := range keys {
		if value, err := rdb.Get(t.Context(), key).Result(); err != nil || !strings.Contains(value, "vault:v2:") {
			t.Errorf("%s is not under the new version: %v", key, err)
		}
	}
	r.engine.do(logical.UpdateOperation, "keys/cache/config", map[string]any{"min_decryption_version": 2})
	r.everywhere(t, "unwraps after the first version is retired", func(before, now status) bool { return now.Unwraps > before.Unwraps+3 })
	r.end(t)
}

// outageOf returns the error of reading a value whose data key is unknown.
func outageOf(t *testing.T, s *middleware.Store) (err error) {
	t.Helper()
	for d := time.Second; d < time.Minute; d *= 2 { // it may be over before a busy machine has the value
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err = s.Get(ctx, "old:0:0")
		cancel()
		if errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return err
}

// The key service is stopped, throttles, fails, denies, hangs and starts again, under the load of three processes. Data keys in
// use go on to seal and open, so that no operation fails. A process that meets an unknown data key gets an outage, never a
// refusal, and reads the value when the service is back.
func TestTransitOutagesUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRotation(t, false, "8m") // a quarter of it is the shortest outage that writes survive
	r.start(t)
	kek := open(t, r.server)
	backing, err := stores.Open(t.Context(), r.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	for name, outage := range map[string]struct{ begin, end func() }{
		"stopped":    {r.server.Stop, r.server.Start},
		"throttling": {func() { r.server.Status(http.StatusTooManyRequests) }, func() { r.server.Status(0) }},
		"sealed":     {func() { r.server.Status(http.StatusServiceUnavailable) }, func() { r.server.Status(0) }},
		"denying":    {func() { r.server.Set(token, nil) }, func() { r.server.Set(token, &servertest.Token{Paths: []string{"*"}}) }},
		"hanging":    {r.server.Hang, r.server.Restart},
	} {
		cold, err := aead.NewEnvelope(t.Context(), kek)
		if err != nil {
			t.Fatal(err)
		}
		s, err := middleware.New(backing, cold, middleware.WithNamespace("shop"))
		if err != nil {
			t.Fatal(err)
		}
		outage.begin()
		r.work(t)
		err = outageOf(t, s)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("%s: an unknown data key: %v", name, err)
		}
		if err := s.Set(t.Context(), "cold", "value"); err != nil {
			t.Errorf("%s: sealing under the data key in use: %v", name, err)
		}
		outage.end()
		if got, err := s.Get(t.Context(), "old:0:0"); err != nil || got != "old 0" {
			t.Errorf("%s: after it: %v, %v", name, got, err)
		}
		r.work(t)
		if err := cold.Close(); err != nil {
			t.Error(err)
		}
	}

	// A slow service does not count as an outage.
	cold, err := aead.NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer cold.Close()
	s, err := middleware.New(backing, cold, middleware.WithNamespace("shop"))
	if err != nil {
		t.Fatal(err)
	}
	r.delay.Store(int64(500 * time.Millisecond))
	r.work(t)
	if got, err := s.Get(t.Context(), "old:1:0"); err != nil || got != "old 0" {
		t.Errorf("a slow service: %v, %v", got, err)
	}
	r.work(t)
	r.delay.Store(0)
	r.end(t)
}
