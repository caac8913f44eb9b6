//go:build unix

package aead_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealcache/sealcache/aead"
)

// A named pipe is a way to give a process a secret once. Its reader waits for a writer that has it open, but never for one
// that may not come.
func TestNamedPipes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	src := aead.FileSource(path)
	if _, err := src.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "named pipe is empty") {
		t.Errorf("without a writer: %v", err)
	}

	// Opened for both, the pipe has a writer before its reader.
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for d := 50 * time.Millisecond; ; d *= 2 { // it may be over before a busy machine reads
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err := src.Load(ctx)
		cancel()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || d > time.Minute {
			t.Fatalf("with a silent writer: %v", err)
		}
	}
	// A second reader keeps the content of the pipe when its writer closes it.
	keeps, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer keeps.Close()
	_, err = pipe.WriteString("keyset")
	if err := errors.Join(err, pipe.Close()); err != nil {
		t.Fatal(err)
	}
	if data, err := src.Load(t.Context()); err != nil || string(data) != "keyset" {
		t.Errorf("with a writer: %q, %v", data, err)
	}

	// A passphrase file is abandoned when the caller's context ends, even if it has no deadline.
	if pipe, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	defer pipe.Close() // ends the abandoned reading
	cancelled, cancelNow := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancelNow)
	if _, err := aead.OpenKEK(cancelled, "passphrase:file:"+path); !errors.Is(err, context.Canceled) {
		t.Errorf("a passphrase file that is a silent pipe: %v", err)
	}
}
