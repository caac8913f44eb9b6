package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// keys says where the keys are, as fxmodule.Config wants it. In production the key-encryption key is in a key service
// or a mounted secret, and nothing makes keys at start.
type keys struct {
	kek string // URI
	prf string // path of a keyset that the KEK protects: for unique jobs, hidden type names, schedules
}

// keysIn returns the keys in dir, made if it is empty; without dir they are for this run only.
func keysIn(ctx context.Context, dir string) (k keys, remove func(), err error) {
	remove = func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "examples-jobs"); err != nil {
			return keys{}, nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	} else if dir, err = filepath.Abs(dir); err != nil {
		return keys{}, nil, err
	}
	kek := filepath.Join(dir, "kek.json")
	k = keys{kek: "file://" + kek, prf: filepath.Join(dir, "prf.json")}
	if _, err := os.Stat(kek); !errors.Is(err, fs.ErrNotExist) {
		return k, remove, err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
		return keys{}, nil, err
	}
	if err := os.WriteFile(kek, b.Bytes(), 0o600); err != nil {
		return keys{}, nil, err
	}
	a, err := aead.OpenKEK(ctx, k.kek)
	if err != nil {
		return keys{}, nil, err
	}
	if c, ok := a.(interface{ Close() error }); ok {
		defer c.Close()
	}
	b.Reset()
	if err := aead.CreateKeyset(ctx, &b, a, prf.HMACSHA256PRFKeyTemplate()); err != nil {
		return keys{}, nil, err
	}
	return k, remove, os.WriteFile(k.prf, b.Bytes(), 0o600)
}
