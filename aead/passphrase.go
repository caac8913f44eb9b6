package aead

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/crypto/argon2"
)

// A passphrase KEK seals as follows:
//
//	version (1) || t (1) || p (1) || m in KiB (4, big endian) || salt (16) || AES256-GCM nonce (12), ciphertext, tag (16)
//
// The key is argon2id(passphrase, salt, t, m, p), 32 bytes. The 23 bytes in front and a domain string are authenticated
// before the caller's associated data, so that parameters cannot be exchanged.
const (
	passphraseVersion  = 1
	passphraseSaltSize = 16
	passphraseHeader   = 1 + 1 + 1 + 4 + passphraseSaltSize
	passphraseOverhead = passphraseHeader + gcmOverhead
	passphraseDomain   = "sealcache passphrase KEK\x00"

	minPassphrase = 12
	maxPassphrase = 4096

	// maxDerivedKeys bounds the keys that are held, one for each process that wrapped data keys.
	maxDerivedKeys = 256
)

// argonParams are the cost of a derivation.
type argonParams struct {
	time    uint8
	threads uint8
	memory  uint32 // KiB
}

// passphraseParams is the second recommendation of RFC 9106, section 4. The first, 2 GiB, is more than a container has.
func passphraseParams() argonParams { return argonParams{time: 3, threads: 4, memory: 64 << 10} }

// valid bounds the parameters of a header before any work is done for it: whoever can write to the store can make up
// headers. No more than four times the default's work or memory is done; the lower bound on memory is what OWASP's
// password cheat sheet still allows, and keeps a mistake from weakening new data.
func (p argonParams) valid() bool {
	def := passphraseParams()
	return p.time >= 1 && p.time <= 12 && p.threads >= 1 && p.threads <= 16 &&
		p.memory >= 19<<10 && p.memory <= 4*def.memory &&
		uint64(p.time)*uint64(p.memory) <= 4*uint64(def.time)*uint64(def.memory)
}

// passphraseKEK derives keys from a passphrase: one for sealing, at start, and for opening one for each salt that it
// meets.
type passphraseKEK struct {
	passphrase []byte
	sealing    *primitive
	header     [passphraseHeader]byte // of what it seals

	deriving chan struct{} // one derivation at a time: each takes 64 MiB and all cores

	mu    sync.Mutex
	keys  map[[passphraseHeader]byte]*primitive // that have opened something
	order [][passphraseHeader]byte
}

func openPassphraseKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	_, rest, _ := strings.Cut(uri, ":")
	kind, name, _ := strings.Cut(rest, ":")
	var passphrase []byte
	switch {
	case kind == "env" && name != "":
		value, ok := os.LookupEnv(name)
		if !ok {
			return nil, errors.New("the environment variable that should hold the passphrase is not set")
		}
		passphrase = []byte(value)
	case kind == "file" && filepath.IsAbs(name):
		var err error
		if passphrase, err = readPassphrase(name); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("want passphrase:env:NAME or passphrase:file:/absolute/path")
	}
	return newPassphraseKEK(ctx, passphrase, passphraseParams())
}

// readPassphrase reads a file and takes one line end off, which editors add.
func readPassphrase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+3))
	if err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")), nil
}

func newPassphraseKEK(ctx context.Context, passphrase []byte, params argonParams) (*passphraseKEK, error) {
	if len(passphrase) < minPassphrase || len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes; from %d to %d are allowed", len(passphrase), minPassphrase, maxPassphrase)
	}
	k := &passphraseKEK{passphrase: passphrase, deriving: make(chan struct{}, 1), keys: make(map[[passphraseHeader]byte]*primitive)}
	k.header[0], k.header[1], k.header[2] = passphraseVersion, params.time, params.threads
	binary.BigEndian.PutUint32(k.header[3:], params.memory)
	rand.Read(k.header[7:])
	var err error
	if k.sealing, err = k.derive(ctx, k.header); err != nil {
		return nil, err
	}
	return k, nil
}

func parsePassphraseHeader(ciphertext []byte) (header [passphraseHeader]byte, ok bool) {
	if len(ciphertext) < passphraseOverhead || ciphertext[0] != passphraseVersion {
		return header, false
	}
	header = [passphraseHeader]byte(ciphertext)
	return header, paramsOf(header).valid()
}

func paramsOf(header [passphraseHeader]byte) argonParams {
	return argonParams{time: header[1], threads: header[2], memory: binary.BigEndian.Uint32(header[3:])}
}

// derive waits for its turn and computes a key. The computation itself cannot be interrupted.
func (k *passphraseKEK) derive(ctx context.Context, header [passphraseHeader]byte) (*primitive, error) {
	select {
	case k.deriving <- struct{}{}:
		defer func() { <-k.deriving }()
	case <-ctx.Done():
		return nil, fmt.Errorf("aead: derive a key from the passphrase: %w", ended(ctx))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: derive a key from the passphrase: %w", ended(ctx))
	}
	if p := k.known(header); p != nil {
		return p, nil // somebody before us derived it
	}
	params := paramsOf(header)
	key := argon2.IDKey(k.passphrase, header[7:], uint32(params.time), params.memory, params.threads, 32)
	defer clear(key)
	return newGCMPrimitive(key, true)
}

func (k *passphraseKEK) known(header [passphraseHeader]byte) *primitive {
	if header == k.header && k.sealing != nil {
		return k.sealing
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[header]
}

// keep holds a key that has opened something. Keys of made-up salts never do, so they displace nothing.
func (k *passphraseKEK) keep(header [passphraseHeader]byte, p *primitive) {
	if header == k.header {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.keys[header]; ok {
		return
	}
	if len(k.order) >= maxDerivedKeys {
		delete(k.keys, k.order[0])
		k.order = k.order[1:]
	}
	k.keys[header] = p
	k.order = append(k.order, header)
}

func passphraseAD(header [passphraseHeader]byte, associatedData []byte) []byte {
	ad := make([]byte, 0, len(passphraseDomain)+passphraseHeader+len(associatedData))
	ad = append(ad, passphraseDomain...)
	ad = append(ad, header[:]...)
	return append(ad, associatedData...)
}

// EncryptWithContext implements tink.AEADWithContext.
func (k *passphraseKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	out := make([]byte, 0, passphraseOverhead+len(plaintext))
	out = append(out, k.header[:]...)
	return k.sealing.sealTo(out, plaintext, passphraseAD(k.header, associatedData))
}

// DecryptWithContext implements tink.AEADWithContext.
func (k *passphraseKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open: %w", ended(ctx))
	}
	header, ok := parsePassphraseHeader(ciphertext)
	if !ok {
		return nil, ErrUnauthentic
	}
	p := k.known(header)
	if p == nil {
		var err error
		if p, err = k.derive(ctx, header); err != nil {
			return nil, err
		}
	}
	opened, err := p.openTo(nil, ciphertext[passphraseHeader:], passphraseAD(header, associatedData), false)
	if err != nil {
		return nil, err
	}
	k.keep(header, p)
	return present(opened, nil)
}

// String says nothing of the passphrase.
func (k *passphraseKEK) String() string { return "aead: passphrase KEK" }

// GoString is String.
func (k *passphraseKEK) GoString() string { return k.String() }

// LogValue is String.
func (k *passphraseKEK) LogValue() slog.Value { return slog.StringValue(k.String()) }
