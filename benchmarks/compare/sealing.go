package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/fernet/fernet-go"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	wrappingaead "github.com/hashicorp/go-kms-wrapping/v2/aead"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"google.golang.org/protobuf/proto"

	"github.com/sealcache/sealcache/aead"
)

// sizes returns the sizes of values, in bytes.
func sizes() []int { return []int{64, 1 << 10, 16 << 10} }

// sealer is a library that seals bytes under a name.
type sealer struct {
	name string
	seal func(value, name []byte) ([]byte, error)
	open func(sealed, name []byte) ([]byte, error)
}

var errAnotherValue = errors.New("the value that came back differs from the value that was sealed")

// compareSealing seals and opens random bytes in memory, by one goroutine. Every library binds the value to a name, except
// fernet-go, which cannot.
func compareSealing(ctx context.Context, c *comparison) {
	sealers := newSealers(ctx, c)
	for _, size := range sizes() {
		value, name := random(size), []byte("user:42")
		var ways []way
		for _, s := range sealers {
			sealed, err := s.seal(value, name)
			if err != nil {
				c.Check(fmt.Errorf("seal a value with %s: %w", s.name, err))
			}
			opened, err := s.open(sealed, name)
			if err != nil || !bytes.Equal(opened, value) {
				c.Check(fmt.Errorf("open a value with %s: %w", s.name, errors.Join(err, errAnotherValue)))
			}
			if bytes.Contains(sealed, value) {
				c.Check(fmt.Errorf("the output of %s contains the plaintext value", s.name))
			}
			ways = append(ways, way{name: s.name, stored: len(sealed), do: func(context.Context, int, int) error {
				sealed, err := s.seal(value, name)
				if err != nil {
					return err
				}
				opened, err := s.open(sealed, name)
				if err == nil && len(opened) != len(value) {
					err = errAnotherValue
				}
				return err
			}})
		}
		c.compare(ctx, fmt.Sprintf("seal and open %d B", size), 1, ways)
	}
}

// keyring returns a new keyset, and a Keyring over it.
func (c *comparison) keyring() (*keyset.Handle, *aead.Keyring) {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	c.Check(err)
	keyring, err := aead.NewKeyring(handle)
	c.Check(err)
	c.Cleanup(func() { _ = keyring.Close() })
	return handle, keyring
}

// newSealers returns the libraries, sealcache first. All have local keys.
func newSealers(ctx context.Context, c *comparison) []sealer {
	handle, keyring := c.keyring()
	envelope, err := aead.NewEnvelope(ctx, keyring)
	c.Check(err)
	c.Cleanup(func() { _ = envelope.Close() })
	primitive, err := tinkaead.New(handle)
	c.Check(err)
	tinks := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), primitive)
	return []sealer{
		{
			"sealcache, envelope",
			func(value, name []byte) ([]byte, error) { return envelope.EncryptWithContext(ctx, value, name) },
			func(sealed, name []byte) ([]byte, error) { return envelope.DecryptWithContext(ctx, sealed, name) },
		},
		{"Tink, KMSEnvelopeAEAD", tinks.Encrypt, tinks.Decrypt},
		{"Tink, keyset without envelope", primitive.Encrypt, primitive.Decrypt},
		newFernet(c),
		newWrapping(ctx, c),
		newKMSv2(),
	}
}

func newFernet(c *comparison) sealer {
	var key fernet.Key
	c.Check(key.Generate())
	return sealer{
		"fernet-go",
		func(value, _ []byte) ([]byte, error) { return fernet.EncryptAndSign(value, &key) },
		func(sealed, _ []byte) ([]byte, error) {
			opened := fernet.VerifyAndDecrypt(sealed, time.Hour, []*fernet.Key{&key})
			if opened == nil {
				return nil, errors.New("the Fernet token was altered, or made with another key")
			}
			return opened, nil
		},
	}
}

// newWrapping is go-kms-wrapping's aead wrapper, stored as its protobuf message.
func newWrapping(ctx context.Context, c *comparison) sealer {
	wrapper := wrappingaead.NewWrapper()
	_, err := wrapper.SetConfig(ctx, wrapping.WithKeyId("k"))
	c.Check(err)
	c.Check(wrapper.SetAesGcmKeyBytes(random(32)))
	return sealer{
		"go-kms-wrapping, aead",
		func(value, name []byte) ([]byte, error) {
			blob, err := wrapper.Encrypt(ctx, value, wrapping.WithAad(name))
			if err != nil {
				return nil, err
			}
			return proto.Marshal(blob)
		},
		func(sealed, name []byte) ([]byte, error) {
			var blob wrapping.BlobInfo
			if err := proto.Unmarshal(sealed, &blob); err != nil {
				return nil, err
			}
			return wrapper.Decrypt(ctx, &blob, wrapping.WithAad(name))
		},
	}
}

// newKMSv2 is the scheme of Kubernetes KMSv2, with Go's own HKDF and AES-GCM. Each write derives a key from a seed and 32
// random bytes, which are stored before the ciphertext. Kubernetes also stores the wrapped seed with each value; here it is
// left out.
func newKMSv2() sealer {
	const infoBytes = 32
	seed := random(32)
	derive := func(info []byte) (cipher.AEAD, error) {
		key, err := hkdf.Expand(sha256.New, seed, string(info), 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCMWithRandomNonce(block)
	}
	return sealer{
		"scheme of Kubernetes KMSv2",
		func(value, name []byte) ([]byte, error) {
			info := random(infoBytes)
			gcm, err := derive(info)
			if err != nil {
				return nil, err
			}
			return gcm.Seal(info, nil, value, name), nil
		},
		func(sealed, name []byte) ([]byte, error) {
			if len(sealed) < infoBytes {
				return nil, errors.New("the sealed value is too short")
			}
			gcm, err := derive(sealed[:infoBytes])
			if err != nil {
				return nil, err
			}
			return gcm.Open(nil, nil, sealed[infoBytes:], name)
		},
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
