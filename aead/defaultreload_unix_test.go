//go:build unix

package aead

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A path is read again by default only if it leads to a regular file, or cannot be looked up at this time.
func TestDefaultReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(in("file"), []byte("keyset"), 0o600), syscall.Mkfifo(in("pipe"), 0o600),
		os.Symlink("file", in("link")), os.Symlink("pipe", in("link to pipe")),
	); err != nil {
		t.Fatal(err)
	}
	for src, want := range map[Source]time.Duration{
		FileSource(in("file")): fileReload, FileSource(in("link")): fileReload, FileSource(in("missing")): fileReload,
		FileSource(in("pipe")): 0, FileSource(in("link to pipe")): 0, FileSource("/dev/null"): 0, FileSource(dir): 0,
		EnvSource("KEYSET"): 0,
	} {
		if got := defaultReload(t.Context(), src); got != want {
			t.Errorf("%v: %v, want %v", src, got, want)
		}
	}
}

// A KEK that a named pipe hands over is read once. A second reading would fail each minute.
func TestNamedPipeIsReadOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// A second reader keeps the content of the pipe when its writer closes it.
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	keeps, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer keeps.Close()
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(writer)), writer.Close()); err != nil {
		t.Fatal(err)
	}
	kek, err := OpenKEK(t.Context(), "file://"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		kek.(*Keyring).background.Wait()
		cancel()
	}()
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("the pipe is read again in the background")
	}
}
