package aead

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// The readings that a hung file system holds are bounded over all sources. The next one ends with its context. The test is not
// parallel, because it takes all slots.
func TestFileReadsAreBounded(t *testing.T) { //nolint:paralleltest // see above
	path := filepath.Join(t.TempDir(), "keyset")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range cap(fileReads.all) {
		fileReads.all <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := FileSource(path).Load(ctx)
	for range cap(fileReads.all) {
		<-fileReads.all
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while all readings hang: %v", err)
	}
	if got, err := FileSource(path).Load(t.Context()); err != nil || string(got) != "content" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	if len(fileReads.all) != 0 {
		t.Errorf("%d slots are still taken", len(fileReads.all))
	}
}

// The readings of one path are bounded over all its sources, also by their attempts to open a passphrase. Otherwise one file that
// hangs, and is tried again and again, uses up the slots of all others.
func TestReadingsOfOnePathAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte("a long passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	var releases []func()
	for range sourceParallel { // they hang
		release, err := fileReads.take(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := OpenKEK(ctx, "passphrase:file:"+filepath.ToSlash(path)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while earlier readings hang: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := FileSource(path).Load(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "too many file reads") {
		t.Errorf("while earlier readings hang: %v", err)
	}
	for _, release := range releases {
		release()
	}
	if _, err := FileSource(path).Load(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// hungOpener reads a file on a mount that hangs.
type hungOpener struct{ began, hang chan struct{} }

func (hungOpener) Schemes() []string { return []string{"hung"} }

func (o hungOpener) OpenKEK(context.Context, string) (tink.AEADWithContext, error) {
	o.began <- struct{}{}
	<-o.hang
	return nil, errors.New("too late")
}

// The calls of openers for one URI are bounded, those that were abandoned included.
func TestAbandonedOpenersAreBounded(t *testing.T) {
	t.Parallel()
	o := hungOpener{make(chan struct{}, 3*sourceParallel+1), make(chan struct{})}
	for range 3 * sourceParallel {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := OpenKEK(ctx, "hung:one", o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		cancel()
	}
	if n := len(o.began); n > sourceParallel {
		t.Errorf("%d calls are under way, want at most %d", n, sourceParallel)
	}
	close(o.hang)
	if _, err := OpenKEK(t.Context(), "hung:one", o); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("afterwards: %v", err)
	}
}

// Names are forgotten when their last call has ended, whether calls were done or stopped waiting.
func TestNamedSlots(t *testing.T) {
	t.Parallel()
	s := &namedSlots{each: 2, all: make(chan struct{}, 3)}
	var (
		wait    sync.WaitGroup
		mu      sync.Mutex
		running = map[string]int{}
		stopped int
	)
	count := func(name string, n int) {
		mu.Lock()
		defer mu.Unlock()
		running[name] += n
		if running[name] > s.each || running["0"]+running["1"]+running["2"] > cap(s.all) {
			t.Errorf("too many calls: %v", running)
		}
	}
	for i := range 300 {
		wait.Go(func() {
			name := strconv.Itoa(i % 3)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%7 == 0 {
				time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
			}
			release, err := s.take(ctx, name)
			if err != nil {
				mu.Lock()
				stopped++
				mu.Unlock()
				return
			}
			count(name, 1)
			time.Sleep(100 * time.Microsecond)
			count(name, -1)
			release()
		})
	}
	wait.Wait()
	if len(s.names) != 0 || len(s.all) != 0 {
		t.Errorf("%d names and %d slots remain", len(s.names), len(s.all))
	}
	t.Logf("%d calls stopped waiting", stopped)
}
