package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// keys are the settings of keys for fxmodule.Config. In production the key-encryption key is in a key service or a
// mounted secret, and no program makes keys at start.
type keys struct {
	kek string // URI
	prf string // path of a keyset that the KEK protects: for unique jobs, hidden type names, schedules
}

// keysIn returns the keys in dir, and makes them if they are missing. Without dir they are for this run only.
func keysIn(ctx context.Context, dir string) (k keys, remove func(), err error) {
	remove = func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "examples-jobs"); err != nil {
			return keys{}, nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	}
	if k, err = makeKeys(ctx, dir); err != nil {
		remove()
		return keys{}, nil, err
	}
	return k, remove, nil
}

func makeKeys(ctx context.Context, dir string) (keys, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return keys{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys{}, err
	}
	kek := filepath.Join(dir, "kek.json")
	k := keys{kek: "file://" + kek, prf: filepath.Join(dir, "prf.json")}
	err = create(kek, func(w io.Writer) error {
		return insecurecleartextkeyset.CreateKeyset(w, tinkaead.AES256GCMKeyTemplate())
	})
	if err != nil {
		return keys{}, err
	}
	return k, create(k.prf, func(w io.Writer) error {
		a, err := aead.OpenKEK(ctx, k.kek)
		if err != nil {
			return err
		}
		defer a.Close()
		return aead.CreateKeyset(ctx, w, a, prf.HMACSHA256PRFKeyTemplate())
	})
}

// create writes a new file at once. If two processes do so, the file of the first one stays.
func create(path string, write func(io.Writer) error) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "keyset") // CreateTemp gives the mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
