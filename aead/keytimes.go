package aead

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/strictjson"
)

// KeyTimesSuffix is appended to the name of a keyset's file to name the file with the times of its keys.
const KeyTimesSuffix = ".times"

const (
	keyTimesSchema = 1
	keyTimesDomain = "sealcache key times 1\x00"
	keyTimesTag    = 32 // bytes of a PRF's output
)

// KeyTimes are the times of one key of a keyset. Tink's keysets contain no times, so a file next to the keyset holds them. A zero
// time is not known, or the event has not happened.
type KeyTimes struct {
	ID       uint32    `json:"id"`
	Created  time.Time `json:"created,omitzero"`
	Promoted time.Time `json:"promoted,omitzero"` // became the primary key
	Demoted  time.Time `json:"demoted,omitzero"`  // stopped being the primary key
	Disabled time.Time `json:"disabled,omitzero"`
	Enabled  time.Time `json:"enabled,omitzero"` // was enabled again; "sealcache keys rotate" does not disable it again
}

// keyTimesFile is the form of the file: JSON that operators can read, and a tag under the keyset.
type keyTimesFile struct {
	Schema int             `json:"schema"`
	Keys   json.RawMessage `json:"keys"`
	Tag    []byte          `json:"tag"`
}

// SealKeyTimes returns the content of a file of key times. The content is not secret. It is authenticated by a tag under the
// primary key of the keyset. With a keyset of PRF keys, the tag is an output of the primary PRF.
func SealKeyTimes(h *keyset.Handle, times []KeyTimes) ([]byte, error) {
	keys, err := json.Marshal(times)
	if err != nil {
		return nil, fmt.Errorf("aead: write the ages of the keys (the .times file next to the keyset): %w", err)
	}
	auth, err := newTimesAuthenticator(h)
	if err != nil {
		return nil, err
	}
	f := keyTimesFile{Schema: keyTimesSchema, Keys: keys}
	if f.Tag, err = auth.tag(append([]byte(keyTimesDomain), keys...)); err != nil {
		return nil, fmt.Errorf("aead: write the ages of the keys: the primary key makes no tag of 32 bytes (use HMAC-SHA256 PRF keys): %w", err)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("aead: write the ages of the keys (the .times file next to the keyset): %w", err)
	}
	return append(data, '\n'), nil
}

// ErrNewerKeyTimes reports a file of key times with content that this release does not know. To write the file would drop it.
var ErrNewerKeyTimes = errors.New("aead: read the ages of the keys: a newer release wrote the .times file (use that release)")

// OpenKeyTimes returns the times in the content of a file of key times. It fails with ErrUnauthentic or ErrUnknownKey
// if no key of the keyset made the tag, and with ErrNewerKeyTimes. Keys that the keyset lacks, and keys without times, are ignored.
func OpenKeyTimes(h *keyset.Handle, data []byte) ([]KeyTimes, error) {
	var f keyTimesFile
	if len(data) > MaxKeysetBytes {
		return nil, fmt.Errorf("aead: read the ages of the keys: the keyset's .times file is over %d bytes (delete the .times file)", MaxKeysetBytes)
	}
	var form struct{ Schema int }
	if json.Unmarshal(data, &form) == nil && form.Schema > keyTimesSchema {
		return nil, ErrNewerKeyTimes // its other members may have another form
	}
	if err := json.Unmarshal(data, &f); err != nil || f.Schema < keyTimesSchema || len(f.Keys) == 0 {
		return nil, errors.New("aead: read the ages of the keys: the keyset's .times file is malformed (restore or delete it)")
	}
	if strictjson.Unmarshal(data, &f) != nil {
		return nil, ErrNewerKeyTimes
	}
	auth, err := newTimesAuthenticator(h)
	if err != nil {
		return nil, err
	}
	var keys bytes.Buffer
	if err := json.Compact(&keys, f.Keys); err != nil {
		return nil, errors.New("aead: read the ages of the keys: the keyset's .times file is damaged (delete the .times file)")
	}
	if err := auth.check(append([]byte(keyTimesDomain), keys.Bytes()...), f.Tag); err != nil {
		return nil, fmt.Errorf("aead: read the ages of the keys: the .times file was altered or is of another keyset (restore or delete it): %w", withoutPrefix(err))
	}
	var times []KeyTimes
	if err := strictjson.Unmarshal(f.Keys, &times); err != nil {
		if json.Unmarshal(f.Keys, &times) == nil {
			return nil, ErrNewerKeyTimes
		}
		return nil, errors.New("aead: read the ages of the keys: the keyset's .times file is damaged (delete the .times file)")
	}
	return times, nil
}

// timesAuthenticator makes and checks tags under the keys of a keyset.
type timesAuthenticator struct {
	keyset *loadedKeyset
	prf    *prf.Set
}

func newTimesAuthenticator(h *keyset.Handle) (timesAuthenticator, error) {
	r, err := newLoadedKeyset(h, &messageCounters{})
	if err == nil {
		return timesAuthenticator{keyset: r}, nil
	}
	if set, e := prf.NewPRFSet(h); e == nil {
		return timesAuthenticator{prf: set}, nil
	}
	return timesAuthenticator{}, err
}

// tag seals an empty message with the content as associated data, or computes the PRF of the content.
func (a timesAuthenticator) tag(content []byte) ([]byte, error) {
	if a.prf != nil {
		return a.prf.ComputePrimaryPRF(content, keyTimesTag)
	}
	key := a.keyset.primary
	return key.prim.sealTo(bytes.Clone(key.sealedPrefix()), nil, content)
}

func (a timesAuthenticator) check(content, tag []byte) error {
	if a.prf == nil {
		_, err := a.keyset.open(nil, tag, content)
		return err
	}
	for _, p := range a.prf.PRFs {
		if want, err := p.ComputePRF(content, keyTimesTag); err == nil && subtle.ConstantTimeCompare(want, tag) == 1 {
			return nil
		}
	}
	return errNotOpened
}

// readTimes reads the times of the keys in service from the file next to the keyset's. If the file is missing or does not
// authenticate, the times are unknown. The keyset stays in service in any case.
func (k *Keyring) readTimes(ctx context.Context, src Source) {
	file, ok := src.(fileSource)
	current := k.keyset.Load()
	if !ok || current == nil || current.handle == nil || strings.HasSuffix(string(file), KeyTimesSuffix) {
		return
	}
	times := make(map[uint32]KeyTimes)
	data, err := abandonable(ctx, make(chan struct{}, 1), func(ctx context.Context) ([]byte, error) {
		path := string(file)
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
		return readFile(ctx, path+KeyTimesSuffix, MaxKeysetBytes+1)
	})
	if err == nil {
		var list []KeyTimes
		list, err = OpenKeyTimes(current.handle, data)
		for _, t := range list {
			times[t.ID] = t
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !k.timesFailed.Swap(true) {
		k.log.WarnContext(ctx, "sealcache: the .times file next to the keyset cannot be read, so the ages of the keys are unknown",
			"path", string(file)+KeyTimesSuffix, "error", err)
	} else if err == nil {
		k.timesFailed.Store(false)
	}
	k.times.Store(&times)
	k.warnOfAge(ctx)
}

// warnOfAge warns once of each key that is older than its cryptoperiod.
func (k *Keyring) warnOfAge(ctx context.Context) {
	if k.cryptoperiod == 0 {
		return
	}
	for _, key := range k.Keys() {
		since := key.Times.Promoted
		if since.IsZero() {
			since = key.Times.Created
		}
		if !key.Primary || since.IsZero() || time.Since(since) <= k.cryptoperiod {
			continue
		}
		if _, warned := k.aged.LoadOrStore(key.ID, true); !warned {
			k.log.WarnContext(ctx, "sealcache: the primary key is older than WithCryptoperiod allows (run \"sealcache keys rotate\")",
				"key_id", key.ID, "since", since, "cryptoperiod", k.cryptoperiod)
		}
	}
}

// WithCryptoperiod sets how long a key may be the primary key. The Keyring checks this whenever it reads the keyset, and logs a warning
// once for each key that is older. It needs a FileSource with a file of key times next to it. d must be positive. Without the option
// nothing is logged.
func WithCryptoperiod(d time.Duration) KeyringOption {
	return keyringOption(func(c *keyringConfig) error {
		if d <= 0 {
			return fmt.Errorf("aead: WithCryptoperiod(%v): the duration must be positive", d)
		}
		c.cryptoperiod = d
		return nil
	})
}

// timesOf adds the times to descriptions of keys.
func (k *Keyring) timesOf(infos []KeyInfo) {
	times := k.times.Load()
	if times == nil {
		return
	}
	for i := range infos {
		infos[i].Times = (*times)[infos[i].ID]
	}
}

// Age returns how old a key is, from when it was made. known is false if its times are unknown.
func (i KeyInfo) Age(now time.Time) (age time.Duration, known bool) {
	since := i.Times.Created
	if since.IsZero() {
		since = i.Times.Promoted
	}
	return now.Sub(since), !since.IsZero()
}
