package aeadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sleep"
)

// ErrOutage is a convenient argument to KeyService.Fail.
var ErrOutage = errors.New("aeadtest: the test simulates an outage of the key service")

// KeyService is a key-encryption key that behaves like a remote key service. It can be slow, fail, hang and refuse, and it
// counts its calls. It encrypts with a Tink keyset.
//
// It implements tink.AEADWithContext. All methods are safe for concurrent use. A setting applies to calls that begin
// after it.
type KeyService struct {
	mu        sync.Mutex
	manager   *keyset.Manager
	primary   uint32
	ids       []uint32
	aead      tink.AEAD
	delay     time.Duration
	err       error
	refusing  bool
	gone      bool
	encrypts  int
	decrypts  int
	running   int
	mostAtOne int
}

var _ tink.AEADWithContext = (*KeyService)(nil)

// NewKeyService returns a key service with one key that answers at once.
func NewKeyService(tb testing.TB) *KeyService {
	tb.Helper()
	s := &KeyService{manager: keyset.NewManager()}
	s.Rotate(tb)
	return s
}

// Rotate adds a new primary key. The service still decrypts under the old ones.
func (s *KeyService) Rotate(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.manager.Add(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		tb.Fatalf("aeadtest: Rotate cannot make a new key: %v", err)
	}
	if err := s.manager.SetPrimary(id); err != nil {
		tb.Fatalf("aeadtest: Rotate cannot make a new key: %v", err)
	}
	s.primary, s.ids = id, append(s.ids, id)
	s.use(tb)
}

// DestroyOldKeys destroys every key but the primary one. Data keys that are wrapped under them are lost.
func (s *KeyService) DestroyOldKeys(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.ids {
		if id == s.primary {
			continue
		}
		if err := s.manager.Delete(id); err != nil {
			tb.Fatalf("aeadtest: DestroyOldKeys cannot delete a key: %v", err)
		}
	}
	s.ids = []uint32{s.primary}
	s.use(tb)
}

func (s *KeyService) use(tb testing.TB) {
	tb.Helper()
	handle, err := s.manager.Handle()
	if err != nil {
		tb.Fatalf("aeadtest: the keyset of the simulated key service cannot be used: %v", err)
	}
	// Tink's own primitive of AES-GCM fails in FIPS 140-only mode.
	if s.aead, err = aead.NewKeyring(handle); err != nil {
		tb.Fatalf("aeadtest: the keyset of the simulated key service cannot be used: %v", err)
	}
}

// Delay makes each call take d, or until its context ends. Zero is at once.
func (s *KeyService) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Fail makes each call fail with err, such as ErrOutage. Nil ends it.
func (s *KeyService) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Refuse makes the service refuse to decrypt anything, as if every ciphertext were forged.
func (s *KeyService) Refuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = refuse
}

// Gone makes the service accept calls and never answer: each ends with its context.
func (s *KeyService) Gone(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = gone
}

// Encrypts returns how often the service was asked to encrypt, including failed calls.
func (s *KeyService) Encrypts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encrypts
}

// Decrypts returns how often the service was asked to decrypt, including failed calls.
func (s *KeyService) Decrypts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decrypts
}

// MostAtOnce returns the largest number of calls that were under way at one time.
func (s *KeyService) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostAtOne
}

// EncryptWithContext implements tink.AEADWithContext.
func (s *KeyService) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	a, _, err := s.answer(ctx, &s.encrypts)
	if err != nil {
		return nil, err
	}
	return a.Encrypt(plaintext, associatedData)
}

// DecryptWithContext implements tink.AEADWithContext. It marks refusals with aead.ErrUnauthentic.
func (s *KeyService) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	a, refusing, err := s.answer(ctx, &s.decrypts)
	if err != nil {
		return nil, err
	}
	if refusing {
		return nil, fmt.Errorf("aeadtest: the simulated key service refuses every ciphertext, because the test called Refuse: %w", aead.ErrUnauthentic)
	}
	opened, err := a.Decrypt(ciphertext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("aeadtest: the simulated key service cannot decrypt the ciphertext: %w (cause: %w)", aead.ErrUnauthentic, err)
	}
	return opened, nil
}

// answer delays or fails a call as the test has configured.
func (s *KeyService) answer(ctx context.Context, count *int) (a tink.AEAD, refusing bool, err error) {
	s.mu.Lock()
	*count++
	s.running++
	s.mostAtOne = max(s.mostAtOne, s.running)
	a, refusing, err = s.aead, s.refusing, s.err
	delay, gone := s.delay, s.gone
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running--
		s.mu.Unlock()
	}()
	if gone {
		<-ctx.Done()
		return nil, false, fmt.Errorf("aeadtest: the simulated key service never answers, because the test called Gone: %w", ctx.Err())
	}
	if delay > 0 && sleep.For(ctx, delay) != nil {
		return nil, false, fmt.Errorf("aeadtest: the context ended before the simulated key service answered: %w", ctx.Err())
	}
	if err == nil {
		err = ctx.Err()
	}
	return a, refusing, err
}

// String keeps keys out of logs.
func (s *KeyService) String() string { return "aeadtest.KeyService" }

// GoString returns String.
func (s *KeyService) GoString() string { return s.String() }
