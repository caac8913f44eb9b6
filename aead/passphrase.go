package aead

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"
)

// A passphrase KEK seals as follows (FORMAT.md, "Under a passphrase"):
//
//	"\x02pass" (5) || key commitment (32) || AES256-GCM nonce (12), ciphertext, tag (16)
//
// One derivation gives a secret: argon2id(passphrase, salt, t=3, m=64 MiB, p=4), 32 bytes. HKDF-SHA256 expands it to the
// key and to the commitment. The commitment names the key, so a ciphertext under another passphrase or salt is refused
// without any work. The 37 bytes in front and a domain string are authenticated before the caller's associated data.
const (
	passphraseMagic      = "\x02pass"
	passphraseCommitment = 32
	passphraseHeader     = len(passphraseMagic) + passphraseCommitment
	passphraseOverhead   = passphraseHeader + gcmOverhead
	passphraseDomain     = "sealcache passphrase KEK\x00"

	// defaultPassphraseSalt is the salt of a URI without one.
	defaultPassphraseSalt = "sealcache salt 1"
	passphraseSaltSize    = 16

	minPassphrase = 12
	maxPassphrase = 4096
)

// argonParams are the cost of a derivation.
type argonParams struct {
	time    uint32
	threads uint8
	memory  uint32 // KiB
}

// passphraseParams returns the second recommendation of RFC 9106, section 4. The first needs 2 GiB, which is more than
// many containers have. Other parameters would need another magic.
func passphraseParams() argonParams { return argonParams{time: 3, threads: 4, memory: 64 << 10} }

// errOtherPassphrase is allocated once, so that planted values cause no extra work.
var errOtherPassphrase = fmt.Errorf("%w: that key was made from another passphrase or salt", ErrUnknownKey)

// passphraseKEK seals and opens under one key that is derived from a passphrase when it is opened. No ciphertext can
// make it derive another key.
type passphraseKEK struct {
	described
	key    *primitive
	header [passphraseHeader]byte
}

// openPassphraseKEK opens passphrase:env:NAME and passphrase:file:/path, with an optional ?salt= of 32 hex digits.
func openPassphraseKEK(ctx context.Context, uri string, log *slog.Logger) (KEK, error) {
	_, rest, _ := strings.Cut(uri, ":")
	rest, query, hasQuery := strings.Cut(rest, "?")
	kind, name, _ := strings.Cut(rest, ":")
	salt, err := passphraseSalt(query, hasQuery)
	if err != nil {
		return nil, err
	}
	var passphrase []byte
	switch {
	case kind == "env" && name != "":
		value, ok := os.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("the environment variable %s is not set", envSource(name).quoted())
		}
		passphrase = []byte(value)
	case kind == "file" && filepath.IsAbs(name):
		if passphrase, err = readPassphrase(ctx, name, log); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("the URI must be passphrase:env:NAME or passphrase:file:/absolute/path")
	}
	if !hasQuery {
		log.WarnContext(ctx, "sealcache: the passphrase URI has no salt (for new data, use a URI that \"sealcache kek create\" prints)")
	}
	return newPassphraseKEK(ctx, withoutLineEnd(passphrase), salt, passphraseParams())
}

// passphraseSalt reads the query of a URI.
func passphraseSalt(query string, given bool) ([]byte, error) {
	if !given {
		return []byte(defaultPassphraseSalt), nil
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 1 || len(values["salt"]) != 1 {
		return nil, errors.New("the URI has an unknown or repeated parameter after '?' (allowed: \"salt=HEX\", once)")
	}
	salt, err := hex.DecodeString(values["salt"][0])
	if err != nil || len(salt) != passphraseSaltSize {
		return nil, errors.New("the salt in the URI must have 32 hex digits (\"openssl rand -hex 16\" makes a salt)")
	}
	return salt, nil
}

// readPassphrase reads a file. It reads two bytes more than the longest passphrase, for one line end.
func readPassphrase(ctx context.Context, path string, log *slog.Logger) ([]byte, error) {
	return readSecretFile(ctx, path, maxPassphrase+3, log)
}

// withoutLineEnd returns b without one line end, which editors and `echo` add.
func withoutLineEnd(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// newPassphraseKEK derives the key, and clears passphrase. The derivation takes a third of a second and 64 MiB, and cannot
// be interrupted.
func newPassphraseKEK(ctx context.Context, passphrase, salt []byte, params argonParams) (*passphraseKEK, error) {
	defer clear(passphrase)
	if len(passphrase) < minPassphrase || len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes (%d to %d are allowed)", len(passphrase), minPassphrase, maxPassphrase)
	}
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	secret := argon2.IDKey(passphrase, salt, params.time, params.memory, params.threads, 32)
	defer clear(secret)
	key, err := hkdf.Expand(sha256.New, secret, passphraseDomain+"key", 32)
	if err != nil {
		return nil, fmt.Errorf("cannot derive the key from the passphrase (report this bug): %w", err)
	}
	defer clear(key)
	commitment, err := hkdf.Expand(sha256.New, secret, passphraseDomain+"commitment", passphraseCommitment)
	if err != nil {
		return nil, fmt.Errorf("cannot derive the key from the passphrase (report this bug): %w", err)
	}
	k := &passphraseKEK{described: "aead: passphrase KEK"}
	copy(k.header[copy(k.header[:], passphraseMagic):], commitment)
	if k.key, err = newGCMPrimitive(key, true); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *passphraseKEK) associatedData(ad []byte) []byte {
	out := make([]byte, 0, len(passphraseDomain)+passphraseHeader+len(ad))
	out = append(out, passphraseDomain...)
	out = append(out, k.header[:]...)
	return append(out, ad...)
}

// EncryptWithContext implements tink.AEADWithContext.
func (k *passphraseKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	out := make([]byte, 0, passphraseOverhead+len(plaintext))
	out = append(out, k.header[:]...)
	return k.key.sealTo(out, plaintext, k.associatedData(associatedData))
}

// DecryptWithContext implements tink.AEADWithContext. A ciphertext under another passphrase or salt, or of another AEAD, is
// ErrUnknownKey.
func (k *passphraseKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open: %w", ended(ctx))
	}
	switch {
	case len(ciphertext) < leastCiphertext:
		return nil, errNotOpened
	case len(ciphertext) < passphraseHeader || string(ciphertext[:len(passphraseMagic)]) != passphraseMagic:
		return nil, errOtherForm
	case subtle.ConstantTimeCompare(ciphertext[:passphraseHeader], k.header[:]) != 1:
		return nil, errOtherPassphrase
	}
	return present(k.key.openTo(nil, ciphertext[passphraseHeader:], k.associatedData(associatedData), false))
}

// Close does nothing. The key is released when the KEK is no longer referenced.
func (k *passphraseKEK) Close() error { return nil }
