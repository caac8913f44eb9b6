package aead

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/options"
)

// KeyringOption is an option of the functions that read or write keysets. Each function refuses options that do not
// apply to it.
type KeyringOption interface {
	applyKeyring(c *keyringConfig) error
}

type keyringConfig struct {
	associatedData    []byte
	hasAssociatedData bool
	reload            time.Duration
	reloadOption      string // the option that set reload; empty if none did
	name              string
	kekCheck          time.Duration
	hasKEKCheck       bool
	cryptoperiod      time.Duration
	log               *slog.Logger
}

type keyringOption func(c *keyringConfig) error

func (o keyringOption) applyKeyring(c *keyringConfig) error { return o(c) }

// WithAssociatedData sets the associated data of the sealed keyset itself. The default is none.
func WithAssociatedData(ad []byte) KeyringOption {
	ad = bytes.Clone(ad)
	return keyringOption(func(c *keyringConfig) error {
		c.associatedData, c.hasAssociatedData = ad, true
		return nil
	})
}

// WithKeysetName binds a sealed keyset to a name, so that two keysets under one key-encryption key cannot be exchanged.
// CreateKeyset seals the keyset with the name as associated data. OpenKeyring and OpenPRF refuse a keyset of another name;
// they open one that was sealed without a name, with a warning. name has 1 to 64 letters, digits, '_', '.' or '-'. It
// cannot be combined with WithAssociatedData.
func WithKeysetName(name string) KeyringOption {
	return keyringOption(func(c *keyringConfig) error {
		c.associatedData, c.name = []byte(keysetNameDomain+name), name
		if err := names.Check("the name", name); err != nil {
			return fmt.Errorf("aead: WithKeysetName: %w", err)
		}
		return nil
	})
}

// keysetNameDomain keeps names apart from the associated data of applications.
const keysetNameDomain = "sealcache keyset\x00"

// WithReload reads the source again at this interval. A FileSource is also read as soon as the file changes. If
// the bytes are the same as before, the keyset is not opened again, so that a key service is called only after a
// change. every must be positive. After a failure the old keyset stays in service, and the failure is logged. The
// wait before the next attempt starts at one second and doubles up to every.
//
// The default for a FileSource is one minute, if its path is that of a regular file when it is opened. Other sources are by
// default read again only when Reload is called. Reloading takes one goroutine, which Close ends.
func WithReload(every time.Duration) KeyringOption {
	return keyringOption(func(c *keyringConfig) error {
		if every <= 0 {
			return fmt.Errorf("aead: WithReload(%v): the interval must be positive (use WithoutReload for no reloading)", every)
		}
		c.reload, c.reloadOption = every, "WithReload"
		return nil
	})
}

// WithoutReload reads the source again only when Reload is called. It is for a file that can be read only once, for a
// program that ends soon, and for a program with many Keyrings: on Linux, reloading costs each one a goroutine and an
// inotify instance.
func WithoutReload() KeyringOption {
	return keyringOption(func(c *keyringConfig) error {
		c.reload, c.reloadOption = 0, "WithoutReload"
		return nil
	})
}

// WithKEKCheck sets how often the key-encryption key is asked to open the keyset in service again. A refusal takes the
// keyset out of service, and empties the data-key caches of envelopes over it, until the KEK opens it again. An outage
// leaves it in service. every must be positive. The default is one hour. It does not apply to a keyset in plaintext.
func WithKEKCheck(every time.Duration) KeyringOption {
	return keyringOption(func(c *keyringConfig) error {
		if every <= 0 {
			return fmt.Errorf("aead: WithKEKCheck(%v): the interval must be positive", every)
		}
		c.kekCheck, c.hasKEKCheck = every, true
		return nil
	})
}

// keyringFunction names a function and the options that apply to it. WithLogger applies to all. binds allows
// WithAssociatedData and WithKeysetName. reloads allows WithReload, WithoutReload and
// WithKEKCheck.
type keyringFunction struct {
	name           string
	binds, reloads bool
}

// config applies and checks all options. kek is nil if the function takes none.
func (f keyringFunction) config(kek tink.AEADWithContext, opts []KeyringOption) (*keyringConfig, error) {
	c := &keyringConfig{kekCheck: defaultDataKeyTTL, log: slog.Default()}
	errs := []error{options.Apply("aead: "+f.name+": ", opts, func(o KeyringOption) error { return o.applyKeyring(c) })}
	if c.hasAssociatedData && c.name != "" {
		errs = append(errs, errors.New("aead: WithKeysetName and WithAssociatedData cannot be used together (give only one)"))
	}
	object := f.name
	if _, ok := kek.(cleartext.KEK); ok {
		object = "a keyset in plaintext"
		f.binds = false
	}
	for _, o := range []struct {
		name        string
		given, fits bool
	}{
		{"WithAssociatedData", c.hasAssociatedData, f.binds},
		{"WithKeysetName", c.name != "", f.binds},
		{c.reloadOption, c.reloadOption != "", f.reloads},
		{"WithCryptoperiod", c.cryptoperiod != 0, f.reloads},
		{"WithKEKCheck", c.hasKEKCheck, f.reloads && object == f.name},
	} {
		if o.given && !o.fits {
			errs = append(errs, fmt.Errorf("aead: the option %s does not apply to %s", o.name, object))
		}
	}
	return c, errors.Join(errs...)
}
