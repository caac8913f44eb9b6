// Command quickstart shows how sealcache encrypts cached values. It needs only Go:
//
//	go run ./examples/quickstart
//
// It creates encryption keys, and stores values in a cache in memory. It prints the values that the application reads, next
// to the bytes that the store holds. Then it alters stored values and prints the errors. At the end, it rotates the
// encryption key: a new key encrypts new values, and the old key still decrypts older values.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the program prints refused values itself
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "sealcache-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	// 1. Keys. A keyset in a file, sealed under a key-encryption key (KEK). In production a key service or a mounted
	// secret holds the KEK. The envelope over the keyset makes the data keys that seal the values.
	demo, err := makeKeys(filepath.Join(dir, "keyset.json"))
	if err != nil {
		return err
	}
	keys, err := aead.OpenKeyring(ctx, aead.FileSource(demo.file), demo.kek)
	if err != nil {
		return err
	}
	defer keys.Close()
	envelope, err := aead.NewEnvelope(ctx, keys)
	if err != nil {
		return err
	}
	defer envelope.Close()

	// 2. The store of the application (Redis in most services), and the line that seals it.
	backing, err := memorystore.New()
	if err != nil {
		return err
	}
	defer backing.Close()
	sealed, err := middleware.New(backing, envelope)
	if err != nil {
		return err
	}

	// 3. The rest of the application stays the same.
	diagnoses := cache.New[string](sealed)
	if err := diagnoses.Set(ctx, "patient:17", "type 2 diabetes", store.WithExpiration(time.Hour)); err != nil {
		return err
	}
	s := session{ctx: ctx, out: out, diagnoses: diagnoses, backing: backing}
	s.say("The application writes and reads patient:17")
	s.read("patient:17")
	s.say("What the store holds, and all that its operator sees: names, sizes and times, but no value")
	s.stored("patient:17")

	s.say("Someone with access to the store alters one byte")
	s.tamper("patient:17", func(b []byte) { b[len(b)-1] ^= 1 })
	s.read("patient:17")
	s.tamper("patient:17", func(b []byte) { b[len(b)-1] ^= 1 }) // and back

	s.say("... copies the value to another patient")
	if err := backing.SetBytes(ctx, "patient:18", s.bytes("patient:17")); err != nil {
		return err
	}
	s.read("patient:18")

	s.say("... and plants a value")
	if err := backing.Set(ctx, "patient:19", "perfectly healthy"); err != nil {
		return err
	}
	s.read("patient:19")

	s.say("The key is rotated while the application runs: the file is replaced, the keyring reloads")
	if err := demo.rotate(); err != nil {
		return err
	}
	if err := keys.Reload(ctx); err != nil {
		return err
	}
	if err := diagnoses.Set(ctx, "patient:20", "asthma"); err != nil {
		return err
	}
	s.say("Old values open as before, new ones are under the new key")
	for _, key := range []string{"patient:17", "patient:20"} {
		s.read(key)
		s.stored(key)
	}
	return s.err
}

// session prints the views of the application and of the store's operator.
type session struct {
	ctx       context.Context
	out       io.Writer
	diagnoses *cache.Cache[string]
	backing   *memorystore.Store
	err       error
}

func (s *session) say(what string) { fmt.Fprintf(s.out, "\n%s\n", what) }

func (s *session) read(key string) {
	v, err := s.diagnoses.Get(s.ctx, key)
	switch {
	case errors.Is(err, middleware.ErrUnauthentic):
		fmt.Fprintf(s.out, "  application  %s  refused: it was altered or moved\n", key)
	case errors.Is(err, middleware.ErrNotSealed):
		fmt.Fprintf(s.out, "  application  %s  refused: it is not sealed\n", key)
	case err != nil:
		s.err = errors.Join(s.err, err)
	default:
		fmt.Fprintf(s.out, "  application  %s  %q\n", key, v)
	}
}

func (s *session) stored(key string) {
	b := s.bytes(key)
	info, err := middleware.Inspect(b)
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	fmt.Fprintf(s.out, "  store        %s  %d bytes, sealed under key %d:\n                 %s\n", key, len(b), info.Key.ID, hex.EncodeToString(b))
}

func (s *session) bytes(key string) []byte {
	b, err := s.backing.GetBytes(s.ctx, key)
	s.err = errors.Join(s.err, err)
	return b
}

func (s *session) tamper(key string, change func([]byte)) {
	b := s.bytes(key)
	change(b)
	s.err = errors.Join(s.err, s.backing.SetBytes(s.ctx, key, b))
}

// demoKeys does the work of a key service and a deployment.
type demoKeys struct {
	kek    *aead.Keyring
	keyset *keyset.Handle
	file   string
}

func makeKeys(file string) (*demoKeys, error) {
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	kek, err := aead.NewKeyring(h)
	if err != nil {
		return nil, err
	}
	ks, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	d := &demoKeys{kek: kek, keyset: ks, file: file}
	return d, d.write()
}

// rotate adds a key to the keyset and makes it the primary.
func (d *demoKeys) rotate() error {
	m := keyset.NewManagerFromHandle(d.keyset)
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	if err := m.SetPrimary(id); err != nil {
		return err
	}
	if d.keyset, err = m.Handle(); err != nil {
		return err
	}
	return d.write()
}

// write seals the keyset under the KEK and replaces the file in one step.
func (d *demoKeys) write() error {
	var b bytes.Buffer
	if err := d.keyset.Write(keyset.NewJSONWriter(&b), d.kek); err != nil {
		return err
	}
	next := d.file + ".next"
	if err := os.WriteFile(next, b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(next, d.file)
}
