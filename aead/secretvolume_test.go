//go:build unix

package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tinkcleartext "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// secretVolume is the mount of a Kubernetes secret. update does what the kubelet does. It makes a new directory with a
// timestamp, renames the link ..data, and removes the previous directory. See AtomicWriter.Write in
// kubernetes/pkg/volume/util/atomic_writer.go.
type secretVolume struct {
	t     *testing.T
	dir   string
	swaps int
}

func (v *secretVolume) path(file string) string { return filepath.Join(v.dir, file) }

func (v *secretVolume) update(files map[string][]byte) {
	v.t.Helper()
	must := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	data := v.path("..data")
	before, err := os.Readlink(data)
	if !errors.Is(err, os.ErrNotExist) {
		must(err)
	}
	v.swaps++
	now := time.Date(2026, 1, 31, 12, 0, v.swaps, 123456789, time.UTC).Format("..2006_01_02_15_04_05.000000000")
	must(os.Mkdir(v.path(now), 0o755))
	for name, content := range files {
		must(os.WriteFile(filepath.Join(v.path(now), name), content, 0o600))
	}
	must(os.Symlink(now, v.path("..data_tmp")))
	must(os.Rename(v.path("..data_tmp"), data))
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), v.path(name)); !errors.Is(err, os.ErrExist) {
			must(err)
		}
	}
	entries, err := os.ReadDir(v.dir)
	must(err)
	for _, e := range entries {
		if _, still := files[e.Name()]; !still && e.Name()[0] != '.' {
			must(os.Remove(v.path(e.Name())))
		}
	}
	if before != "" {
		must(os.RemoveAll(v.path(before)))
	}
}

// secretContent is the content of the secret: a KEK, a keyset under it, and the times of its keys.
type secretContent struct {
	t         *testing.T
	kek, keys *keyset.Manager
	times     []aead.KeyTimes
}

// rotate adds a primary key to both keysets.
func (c *secretContent) rotate() (id uint32) {
	addPrimary(c.t, c.kek)
	id = addPrimary(c.t, c.keys)
	c.times = append(c.times, aead.KeyTimes{ID: id, Created: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)})
	return id
}

func (c *secretContent) files() map[string][]byte {
	c.t.Helper()
	handle, err := c.kek.Handle()
	if err != nil {
		c.t.Fatal(err)
	}
	var plaintext bytes.Buffer
	if err := tinkcleartext.Write(handle, keyset.NewJSONWriter(&plaintext)); err != nil {
		c.t.Fatal(err)
	}
	keys, err := c.keys.Handle()
	if err != nil {
		c.t.Fatal(err)
	}
	times, err := aead.SealKeyTimes(keys, c.times)
	if err != nil {
		c.t.Fatal(err)
	}
	return map[string][]byte{
		"kek.json":          plaintext.Bytes(),
		"keyset.json":       sealedKeyset(c.t, c.keys, keyringOf(c.t, c.kek)),
		"keyset.json.times": times,
	}
}

// sealAndOpen seals and opens values until ctx ends. The ring always has a whole keyset, whose last key is the
// primary key.
func sealAndOpen(ctx context.Context, t *testing.T, e *aead.Envelope, ring *aead.Keyring, operations *atomic.Int64) {
	t.Helper()
	held := map[int][]byte{}
	for i := 0; ctx.Err() == nil; i++ {
		if i%8 == 0 {
			sealed, err := e.EncryptWithContext(t.Context(), []byte("value"), nil)
			if err != nil {
				t.Errorf("seal: %v", err)
				return
			}
			held[i/8%64] = sealed
		}
		if sealed, ok := held[i%64]; ok {
			if _, err := e.DecryptWithContext(t.Context(), sealed, nil); err != nil {
				t.Errorf("open: %v", err)
				return
			}
		}
		if keys := ring.Keys(); !keys[len(keys)-1].Primary {
			t.Errorf("half a keyset: %d keys", len(keys))
		}
		operations.Add(1)
	}
}

// A mounted secret with KEK, keyset and times is replaced again and again while values are sealed and opened. Each keyset is picked
// up whole. Garbage leaves the old one in service.
func TestKubernetesSecret(t *testing.T) {
	t.Parallel()
	content := &secretContent{t: t, kek: keyset.NewManager(), keys: keyset.NewManager()}
	content.rotate()
	volume := &secretVolume{t: t, dir: t.TempDir()}
	volume.update(content.files())
	// Hours: only the watch can notice.
	kek, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.FileSource(volume.path("kek.json")), aead.WithReload(time.Hour), aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(volume.path("keyset.json")), kek, aead.WithReload(time.Hour), aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	e := newEnvelope(t, ring)

	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var operations atomic.Int64
	defer group.Wait()
	defer cancel()
	for range 4 {
		group.Go(func() { sealAndOpen(ctx, t, e, ring, &operations) })
	}
	works := func() {
		t.Helper()
		before := operations.Load()
		eventually(t, "operations go on", func() bool { return operations.Load() > before+1000 || t.Failed() })
	}
	pickedUp := func(id uint32) {
		t.Helper()
		eventually(t, fmt.Sprintf("the keyset of swap %d", volume.swaps), func() bool {
			keys := ring.Keys()
			last := keys[len(keys)-1]
			return len(keys) == len(content.times) && last.ID == id && last.Primary && !last.Times.Created.IsZero()
		})
	}
	for range 5 {
		id := content.rotate()
		volume.update(content.files())
		pickedUp(id)
		works()
	}

	other := &secretContent{t: t, kek: keyset.NewManager(), keys: keyset.NewManager()}
	other.rotate()
	for name, spoil := range map[string]func(files map[string][]byte){
		"truncated":                  func(f map[string][]byte) { f["keyset.json"] = f["keyset.json"][:len(f["keyset.json"])/2] },
		"empty":                      func(f map[string][]byte) { f["keyset.json"] = nil },
		"missing":                    func(f map[string][]byte) { delete(f, "keyset.json") },
		"sealed under another KEK":   func(f map[string][]byte) { f["keyset.json"] = other.files()["keyset.json"] },
		"everything is garbage":      func(f map[string][]byte) { f["keyset.json"], f["kek.json"] = []byte("{}"), []byte("{}") },
		"everything but the KEK out": func(f map[string][]byte) { delete(f, "keyset.json"); delete(f, "keyset.json.times") },
	} {
		before := ring.Keys()
		failures := ring.Stats().ReloadFailures
		files := maps.Clone(content.files())
		spoil(files)
		volume.update(files)
		eventually(t, name+": a failed reload", func() bool { return ring.Stats().ReloadFailures > failures })
		if after := ring.Keys(); len(after) != len(before) || after[len(after)-1].ID != before[len(before)-1].ID {
			t.Errorf("%s: another keyset is in service", name)
		}
		if err := ring.Reload(t.Context()); err == nil {
			t.Errorf("%s: Reload accepts it", name)
		}
		works()
		id := content.rotate()
		volume.update(content.files())
		pickedUp(id)
		works()
	}
}
