package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sleep"
)

// keyServiceDelay is the time of one call to a key service, with the network.
const keyServiceDelay = 5 * time.Millisecond

// keyServiceRow compares an Envelope with Tink's own KMS envelope, which calls the key service for every message. It
// also counts the requests that wait while data keys change.
func keyServiceRow(ctx context.Context, b *bench) {
	keyServiceThroughput(ctx, b)
	keyServiceWaits(ctx, b)
}

func keyServiceThroughput(ctx context.Context, b *bench) {
	for _, size := range []int{64, 1 << 10} {
		name := sizeName(size)
		if !b.wants(name) {
			continue
		}
		service := newSlowService(ctx, b)
		theirs, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), service)
		b.Check(err)
		ours := b.envelope(ctx, service)
		value, ad := payload(size), []byte("associated")
		sealed, err := theirs.EncryptWithContext(ctx, value, ad) // both open this one, because the formats are the same
		b.Check(err)
		seal := func(a tink.AEADWithContext) func(context.Context, int, int) error {
			return func(ctx context.Context, _, _ int) error {
				_, err := a.EncryptWithContext(ctx, value, ad)
				return err
			}
		}
		open := func(a tink.AEADWithContext) func(context.Context, int, int) error {
			return func(ctx context.Context, _, _ int) error {
				_, err := a.DecryptWithContext(ctx, sealed, ad)
				return err
			}
		}
		for _, c := range []struct {
			what         string
			ours, theirs side
		}{
			{"seal", side{name: "envelope", do: seal(ours)}, side{name: "Tink's envelope", do: seal(theirs)}},
			{"open", side{name: "envelope", do: open(ours)}, side{name: "Tink's envelope", do: open(theirs)}},
		} {
			samples := b.interleave(ctx, b.plan(9, 80*time.Millisecond), c.ours, c.theirs)
			b.report(throughput(name, c.what+", throughput, envelope / Tink's envelope", samples[0], samples[1], atLeast(1000)))
		}
	}
}

// keyServiceWaits seals through many changes of the data key and counts the requests that waited for the key service.
//
// An Envelope replaces a data key as soon as the next one is ready. If a data key has sealed as many messages as its
// limit allows, the next one was late, and a request waited. Counting such keys ignores requests that the machine
// merely interrupted.
func keyServiceWaits(ctx context.Context, b *bench) {
	const (
		size = 64
		// messagesPerKey is small, so that data keys change often; the default is 2^30. The last quarter of the
		// messages takes about 100 ms, in which the successor gets ready.
		messagesPerKey = 1 << 20
	)
	changes := b.count(12)
	name := fmt.Sprintf("changes of the data key: %d", changes)
	if !b.wants(name) {
		return
	}
	service := newSlowService(ctx, b)
	limit := b.count(messagesPerKey)
	envelope := b.envelope(ctx, service, aead.WithMaxMessages(uint64(limit)))
	value, ad := payload(size), []byte("associated")
	first := service.calls.Load() // the call of NewEnvelope, before any request

	var (
		sealed   = make([]byte, 0, size+envelope.Overhead())
		key      []byte // the wrapped data key at the start of the last message
		used     int    // messages sealed under it
		messages int
		waited   int
		longest  time.Duration
		wrapped  = envelope.Overhead() - gcmOverhead
	)
	for begin := time.Now(); changes >= 0; messages++ {
		var err error
		sealed, err = envelope.SealTo(ctx, sealed[:0], value, ad)
		b.Check(errors.Join(err, ctx.Err()))
		end := time.Now()
		longest = max(longest, end.Sub(begin))
		if begin = end; !bytes.Equal(sealed[:wrapped], key) {
			if used >= limit-1 { // the probe of NewEnvelope may have been one
				waited++
			}
			key, used = append(key[:0], sealed[:wrapped]...), 0
			changes-- // the first key does not count as a change
		}
		used++
	}
	b.report(Result{
		Case: name, What: "requests that waited for the key service", Unit: "requests",
		Value: exactly(float64(waited)), Budget: atMost(0),
		Figures: fmt.Sprintf("of %d, longest %s", messages, took(longest)),
	})
	b.report(Result{
		Case: name, What: "calls to the key service per million messages", Unit: "calls",
		Value:   exactly(float64(service.calls.Load()-first) / float64(messages) * 1e6),
		Figures: fmt.Sprintf("limit of %d messages per data key; 2^30 by default", limit),
	})
}

// gcmOverhead is the size of nonce and tag of AES-GCM, which follow the wrapped data key.
const gcmOverhead = 12 + 16

// slowService is a KEK with the delay of a key service behind a network. aeadtest.KeyService needs a testing.TB.
type slowService struct {
	kek   tink.AEAD
	calls atomic.Int64
}

func newSlowService(ctx context.Context, b *bench) *slowService {
	return &slowService{kek: b.keys(ctx).tink}
}

// EncryptWithContext implements tink.AEADWithContext.
func (s *slowService) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if err := s.work(ctx); err != nil {
		return nil, err
	}
	return s.kek.Encrypt(plaintext, ad)
}

// DecryptWithContext implements tink.AEADWithContext.
func (s *slowService) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if err := s.work(ctx); err != nil {
		return nil, err
	}
	return s.kek.Decrypt(ciphertext, ad)
}

func (s *slowService) work(ctx context.Context) error {
	s.calls.Add(1)
	return sleep.For(ctx, keyServiceDelay)
}
