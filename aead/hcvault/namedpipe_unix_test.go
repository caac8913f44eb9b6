//go:build unix

package hcvault

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The token file may be a named pipe without a writer. The login must fail then, and not wait for one.
func TestTokenFileIsANamedPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := readToken(pipe)
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil || !strings.Contains(err.Error(), "the token file is empty") {
			t.Errorf("got the error %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the call waits for a writer")
	}
}
