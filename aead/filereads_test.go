package aead

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The readings that a hung file system holds are bounded over all sources. The next one ends with its context. The test is not
// parallel, because it takes all slots.
func TestFileReadsAreBounded(t *testing.T) { //nolint:paralleltest // see above
	path := filepath.Join(t.TempDir(), "keyset")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range cap(fileReads) {
		fileReads <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := FileSource(path).Load(ctx)
	for range cap(fileReads) {
		<-fileReads
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while all readings hang: %v", err)
	}
	if got, err := FileSource(path).Load(t.Context()); err != nil || string(got) != "content" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	if len(fileReads) != 0 {
		t.Errorf("%d slots are still taken", len(fileReads))
	}
}
