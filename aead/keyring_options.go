package aead

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
)

// KeyringOption sets something that OpenKeyring leaves to a default.
type KeyringOption func(*keyringOptions)

type keyringOptions struct {
	associatedData    []byte
	hasAssociatedData bool
	reload            time.Duration
	hasReload         bool
	name              string
	hasName           bool
	kekCheck          time.Duration
	hasKEKCheck       bool
	log               *slog.Logger
}

// WithAssociatedData gives the associated data under which the keyset itself was sealed. The default is none.
func WithAssociatedData(ad []byte) KeyringOption {
	ad = bytes.Clone(ad)
	return func(o *keyringOptions) { o.associatedData, o.hasAssociatedData = ad, true }
}

// WithKeysetName binds a sealed keyset to a name, so that two keysets under one key-encryption key cannot be exchanged.
// CreateKeyset seals the keyset with the name as associated data. OpenKeyring and OpenPRF refuse a keyset of another name;
// they open one that was sealed without a name, with a warning. name has 1 to 64 letters, digits, '_', '.' or '-'. It
// cannot be combined with WithAssociatedData.
func WithKeysetName(name string) KeyringOption {
	return func(o *keyringOptions) { o.name, o.hasName = name, true }
}

// keysetNameDomain keeps names apart from the associated data of applications.
const keysetNameDomain = "sealcache keyset\x00"

func checkKeysetName(name string) error {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	}
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, other) {
		return errors.New("aead: WithKeysetName: want 1 to 64 letters, digits, '_', '.' or '-'")
	}
	return nil
}

// WithReload reads the source again after each such time, and, for a FileSource, as soon as the file changes. A keyset
// that reads as before is not opened again, so that a key service is called for changes only. After a failure the old
// keyset stays in service, the failure is logged, and the next attempt comes after a second, then two, and so on up to
// the given time, which must be positive. The default is to reload only when Reload is called.
//
// It starts one goroutine, which Close ends.
func WithReload(every time.Duration) KeyringOption {
	return func(o *keyringOptions) { o.reload, o.hasReload = every, true }
}

// WithKeyringLogger says where reloads, their failures, and keys that near their bound are logged. No key is. The
// default is slog.Default().
func WithKeyringLogger(log *slog.Logger) KeyringOption {
	return func(o *keyringOptions) { o.log = log }
}

// WithKEKCheck sets how often the key-encryption key is asked to open the keyset in service again. A refusal takes the
// keyset out of service, and empties the data-key caches of envelopes over it, until the KEK opens it again. An outage
// leaves it in service. every must be positive. The default is one hour. It does not apply to a keyset in plaintext.
func WithKEKCheck(every time.Duration) KeyringOption {
	return func(o *keyringOptions) { o.kekCheck, o.hasKEKCheck = every, true }
}

func keyringOptionsOf(opts []KeyringOption) (*keyringOptions, error) {
	o := &keyringOptions{}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("aead: nil KeyringOption")
		}
		opt(o)
	}
	if o.hasReload && o.reload <= 0 {
		return nil, fmt.Errorf("aead: WithReload(%v): must be positive; leave it out for no reloading", o.reload)
	}
	if o.hasKEKCheck && o.kekCheck <= 0 {
		return nil, fmt.Errorf("aead: WithKEKCheck(%v): must be positive", o.kekCheck)
	}
	if o.hasName {
		if o.hasAssociatedData {
			return nil, errors.New("aead: WithKeysetName and WithAssociatedData exclude each other")
		}
		if err := checkKeysetName(o.name); err != nil {
			return nil, err
		}
		o.associatedData = []byte(keysetNameDomain + o.name)
	}
	if !o.hasKEKCheck {
		o.kekCheck = defaultDataKeyTTL
	}
	if o.log == nil {
		o.log = slog.Default()
	}
	return o, nil
}

// only refuses the options that mean nothing to a function that reads or writes a keyset once.
func (o *keyringOptions) only(function string) error {
	if o.hasReload {
		return fmt.Errorf("aead: WithReload does not apply to %s", function)
	}
	if o.hasKEKCheck {
		return fmt.Errorf("aead: WithKEKCheck does not apply to %s", function)
	}
	return nil
}

// fits refuses options that mean nothing for a keyset in plaintext.
func (o *keyringOptions) fits(kek tink.AEADWithContext) error {
	if _, ok := kek.(cleartext.KEK); ok && (o.hasAssociatedData || o.hasName || o.hasKEKCheck) {
		return errors.New("aead: WithAssociatedData, WithKeysetName and WithKEKCheck do not apply to a keyset in plaintext")
	}
	return nil
}
