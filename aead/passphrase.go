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
	maxDerivedKeys = 1024
	// maxUnprovenKeys bounds the keys that are held although they have not opened anything: those of made-up salts.
	maxUnprovenKeys = 1024
	// maxDerivations is how many derivations may wait for their turn: some ten seconds' worth, which is all that an
	// Envelope waits.
	maxDerivations = 32
)

// argonParams are the cost of a derivation.
type argonParams struct {
	time    uint8
	threads uint8
	memory  uint32 // KiB
}

// passphraseParams is the second recommendation of RFC 9106, section 4. The first, 2 GiB, is more than a container has.
//
// They are those of version 1 and no others are accepted with it, although the header names them: whoever can write to
// the store can make up headers, and must be able neither to choose how much work is done for them, nor to have less
// done. Other parameters take another version.
func passphraseParams() argonParams { return argonParams{time: 3, threads: 4, memory: 64 << 10} }

var errTooManyDerivations = errors.New("aead: too many keys at once are to be derived from the passphrase")

// passphraseKEK derives keys from a passphrase: one for sealing, at start, and for opening one for each salt that it
// meets. Whether a salt is made up shows only when its key has been derived and opens nothing, so that:
//
//   - Salts whose key is known never wait for a derivation, and neither do data keys under them (see answersItself).
//   - A salt is derived once, also if its key opens nothing: it may be a good salt in front of a forged ciphertext, so
//     it must not be refused, but it is not derived again.
//   - Few derivations wait for their turn.
type passphraseKEK struct {
	passphrase []byte
	params     argonParams
	sealing    *primitive
	header     [passphraseHeader]byte // of what it seals

	deriving chan struct{} // one derivation at a time: each takes 64 MiB and all cores
	queue    chan struct{} // those that wait, and the one

	mu       sync.Mutex
	proven   derivedKeys // have opened something, so that made-up salts displace none of them
	unproven derivedKeys
}

// derivedKeys are a bounded number of keys by salt; the oldest go first.
type derivedKeys struct {
	most  int
	m     map[[passphraseHeader]byte]*primitive
	order [][passphraseHeader]byte
}

func (d *derivedKeys) put(header [passphraseHeader]byte, p *primitive) {
	if _, ok := d.m[header]; ok {
		return
	}
	if d.m == nil {
		d.m = make(map[[passphraseHeader]byte]*primitive)
	}
	if len(d.order) >= d.most {
		delete(d.m, d.order[0])
		d.order = d.order[1:]
	}
	d.m[header] = p
	d.order = append(d.order, header)
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
		return nil, pathError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+3))
	if err != nil {
		return nil, pathError(err)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")), nil
}

func newPassphraseKEK(ctx context.Context, passphrase []byte, params argonParams) (*passphraseKEK, error) {
	if len(passphrase) < minPassphrase || len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes; from %d to %d are allowed", len(passphrase), minPassphrase, maxPassphrase)
	}
	k := &passphraseKEK{
		passphrase: passphrase, params: params,
		deriving: make(chan struct{}, 1), queue: make(chan struct{}, 1+maxDerivations),
		proven: derivedKeys{most: maxDerivedKeys}, unproven: derivedKeys{most: maxUnprovenKeys},
	}
	k.header[0], k.header[1], k.header[2] = passphraseVersion, params.time, params.threads
	binary.BigEndian.PutUint32(k.header[3:], params.memory)
	rand.Read(k.header[7:])
	var err error
	if k.sealing, err = k.derive(ctx, k.header); err != nil {
		return nil, err
	}
	return k, nil
}

// parse takes the header of a ciphertext, and refuses all but those that this version writes, before any work is done.
func (k *passphraseKEK) parse(ciphertext []byte) (header [passphraseHeader]byte, ok bool) {
	if len(ciphertext) < passphraseOverhead || ciphertext[0] != passphraseVersion {
		return header, false
	}
	header = [passphraseHeader]byte(ciphertext)
	return header, argonParams{time: header[1], threads: header[2], memory: binary.BigEndian.Uint32(header[3:])} == k.params
}

// derive waits for its turn and computes a key. The computation itself cannot be interrupted.
func (k *passphraseKEK) derive(ctx context.Context, header [passphraseHeader]byte) (*primitive, error) {
	select {
	case k.queue <- struct{}{}:
		defer func() { <-k.queue }()
	default:
		return nil, errTooManyDerivations
	}
	if err := take(ctx, k.deriving); err != nil {
		return nil, fmt.Errorf("aead: derive a key from the passphrase: %w", err)
	}
	defer func() { <-k.deriving }()
	if p := k.known(header); p != nil {
		return p, nil // somebody before us derived it
	}
	key := argon2.IDKey(k.passphrase, header[7:], uint32(k.params.time), k.params.memory, k.params.threads, 32)
	defer clear(key)
	own := header == k.header
	p, err := newGCMPrimitive(key, own)
	if err == nil && !own {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.unproven.put(header, p)
	}
	return p, err
}

func (k *passphraseKEK) known(header [passphraseHeader]byte) *primitive {
	if header == k.header && k.sealing != nil {
		return k.sealing
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.proven.m[header]; ok {
		return p
	}
	return k.unproven.m[header]
}

// answersItself tells whether a ciphertext can be answered without a derivation.
func (k *passphraseKEK) answersItself(ciphertext []byte) bool {
	header, ok := k.parse(ciphertext)
	return !ok || k.known(header) != nil
}

// keep holds a key that has opened something.
func (k *passphraseKEK) keep(header [passphraseHeader]byte, p *primitive) {
	if header == k.header {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proven.put(header, p)
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
	header, ok := k.parse(ciphertext)
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

// Format is String, whatever the verb: %d and %x would print the passphrase.
func (k *passphraseKEK) Format(s fmt.State, _ rune) { writeString(s, k) }
