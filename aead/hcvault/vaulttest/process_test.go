//go:build unix

package vaulttest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores"
)

const (
	// processVariable makes the test binary a process of the service. Its value is the number of the process.
	processVariable = "VAULTTEST_PROCESS"
	// limitVariable is the maximum age and the TTL of the data keys of a process.
	limitVariable = "VAULTTEST_LIMIT"
	// commandVariable is where a test builds the sealcache command, if it needs it.
	commandVariable = "VAULTTEST_COMMAND"
)

func TestMain(m *testing.M) {
	if n := os.Getenv(processVariable); n != "" {
		if err := serveProcess(n, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vaulttest")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = os.Setenv(commandVariable, filepath.Join(dir, "sealcache"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// status is what a process reports of itself.
type status struct {
	Operations, Failures int
	Error                string // the first
	Primary              uint32
	Keys                 []uint32 // that open
	Wraps, Unwraps       uint64
}

// process is one process of the service, as the test sees it.
type process struct {
	number  int
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Scanner
}

func startProcess(t *testing.T, number int, env []string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{number: number, cmd: exec.CommandContext(t.Context(), exe)}
	p.cmd.Env = append(append([]string(nil), env...), processVariable+"="+strconv.Itoa(number))
	p.cmd.Stderr = t.Output()
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.answers = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask returns the status of the process.
func (p *process) ask(t *testing.T) status {
	t.Helper()
	var s status
	if _, err := io.WriteString(p.in, "status\n"); err != nil {
		t.Fatalf("process %d: %v", p.number, err)
	}
	if !p.answers.Scan() {
		t.Fatalf("process %d has ended", p.number)
	}
	if err := json.Unmarshal(p.answers.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// stop ends the process, and returns its last status.
func (p *process) stop(t *testing.T) status {
	t.Helper()
	_ = p.in.Close()
	var s status
	if !p.answers.Scan() {
		t.Fatalf("process %d has ended", p.number)
	}
	if err := json.Unmarshal(p.answers.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("process %d: %v", p.number, err)
	}
	return s
}

// worker is the service in its process.
type worker struct {
	store    *middleware.Store
	envelope *aead.Envelope
	ring     *aead.Keyring // nil without a keyset
	number   string

	operations, failures atomic.Int64
	mu                   sync.Mutex
	first                error
}

const (
	keysPerWriter = 40
	oldValues     = 100
	writers       = 2
)

// serveProcess works until in ends. Each line of in is answered by the status.
func serveProcess(number string, in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &worker{number: number}
	closers, err := w.open(ctx)
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i].Close())
		}
	}()
	if err != nil {
		return err
	}
	for i := range oldValues { // read all the time, and never written again
		if err := w.store.Set(ctx, fmt.Sprintf("old:%s:%d", number, i), fmt.Sprint("old ", i)); err != nil {
			return err
		}
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() { w.write(ctx, i) })
	}
	group.Go(func() { w.read(ctx) })
	encoder := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := encoder.Encode(w.status()); err != nil {
			return err
		}
	}
	cancel()
	group.Wait()
	return encoder.Encode(w.status())
}

// open opens keys and store as an application does.
func (w *worker) open(ctx context.Context) (closers []io.Closer, err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	kek, err := aead.OpenKEK(ctx, os.Getenv("SEALCACHE_KEK"), hcvault.Opener{Logger: log})
	if err != nil {
		return closers, err
	}
	closers = append(closers, kek)
	var wrapping tink.AEADWithContext = kek
	opts := []aead.EnvelopeOption{aead.WithLogger(log)}
	if file := os.Getenv("SEALCACHE_KEYSET"); file != "" {
		if w.ring, err = aead.OpenKeyring(ctx, aead.FileSource(file), kek, aead.WithReload(time.Second), aead.WithLogger(log)); err != nil {
			return closers, err
		}
		closers = append(closers, w.ring)
		wrapping = w.ring
	}
	if text := os.Getenv(limitVariable); text != "" {
		limit, err := time.ParseDuration(text)
		if err != nil {
			return closers, err
		}
		opts = append(opts, aead.WithMaxAge(limit), aead.WithDataKeyTTL(limit))
	}
	if w.envelope, err = aead.NewEnvelope(ctx, wrapping, opts...); err != nil {
		return closers, err
	}
	closers = append(closers, w.envelope)
	backing, err := stores.Open(ctx, os.Getenv("SEALCACHE_STORE"))
	if err != nil {
		return closers, err
	}
	if c, ok := backing.(io.Closer); ok {
		closers = append(closers, c)
	}
	w.store, err = middleware.New(backing, w.envelope, middleware.WithNamespace(os.Getenv("SEALCACHE_NAMESPACE")), middleware.WithLogger(log))
	if err != nil {
		return closers, err
	}
	return closers, w.store.Check(ctx)
}

func (w *worker) status() status {
	s := status{Operations: int(w.operations.Load()), Failures: int(w.failures.Load())}
	stats := w.envelope.Stats()
	s.Wraps, s.Unwraps = stats.Wraps, stats.Unwraps
	if w.ring != nil {
		for _, k := range w.ring.Keys() {
			if k.Status == keyset.Enabled {
				s.Keys = append(s.Keys, k.ID)
			}
			if k.Primary {
				s.Primary = k.ID
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first != nil {
		s.Error = w.first.Error()
	}
	return s
}

// done counts an operation.
func (w *worker) done(err error) {
	w.operations.Add(1)
	if err == nil {
		return
	}
	w.failures.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = err
	}
}

// pace leaves the processor to the others. It returns false when the work ends.
func pace(ctx context.Context) bool {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// write sets keys that nothing else sets, and reads each back.
func (w *worker) write(ctx context.Context, writer int) {
	for i := 0; pace(ctx); i++ {
		key, value := fmt.Sprintf("new:%s:%d:%d", w.number, writer, i%keysPerWriter), fmt.Sprint("value ", i)
		err := w.store.Set(context.Background(), key, value)
		if err == nil {
			err = w.expect(key, value)
		}
		w.done(err)
	}
}

// read reads values from before, and those of the other processes.
func (w *worker) read(ctx context.Context) {
	for i := 0; pace(ctx); i++ {
		of := fmt.Sprint(i % 3)
		if i%2 == 0 {
			_, err := w.store.Get(context.Background(), fmt.Sprintf("new:%s:%d:%d", of, i/3%writers, i%keysPerWriter))
			if errors.Is(err, store.NotFound{}) { // its process has just started
				err = nil
			}
			w.done(err)
			continue
		}
		n := i / 3 % oldValues
		err := w.expect(fmt.Sprintf("old:%s:%d", w.number, n), fmt.Sprint("old ", n))
		w.done(err)
	}
}

func (w *worker) expect(key, want string) error {
	got, err := w.store.Get(context.Background(), key)
	if err == nil && got != want {
		err = fmt.Errorf("%s holds %v, want %s", key, got, want)
	}
	return err
}
