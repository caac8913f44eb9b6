package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// keyServiceDelay is what a call to a key service takes: the network and somebody else's computer.
const keyServiceDelay = 5 * time.Millisecond

// keyServiceRow holds an Envelope against Tink's own KMS envelope, which asks the key service for every message, and
// counts what a change of data keys costs those who seal.
func keyServiceRow(ctx context.Context, b *bench) error {
	if err := keyServiceThroughput(ctx, b); err != nil {
		return err
	}
	return keyServiceWaits(ctx, b)
}

func keyServiceThroughput(ctx context.Context, b *bench) error {
	for _, size := range []int{64, 1 << 10} {
		name := sizeName(size)
		if !b.wants(name) {
			continue
		}
		service, err := newSlowService(ctx)
		if err != nil {
			return err
		}
		theirs, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), service)
		if err != nil {
			return fmt.Errorf("the envelope of Tink: %w", err)
		}
		ours, err := aead.NewEnvelope(ctx, service)
		if err != nil {
			return err
		}
		defer ours.Close()
		value, ad := payload(size), []byte("associated")
		sealed, err := theirs.EncryptWithContext(ctx, value, ad) // the formats are the same: both open this one
		if err != nil {
			return err
		}
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
			{"seal", side{"envelope", seal(ours)}, side{"Tink's envelope", seal(theirs)}},
			{"open", side{"envelope", open(ours)}, side{"Tink's envelope", open(theirs)}},
		} {
			samples, err := interleave(ctx, b.plan(9, 80*time.Millisecond), c.ours, c.theirs)
			if err != nil {
				return err
			}
			b.report(Result{
				Case: name, What: c.what + ", throughput, envelope / Tink's envelope", Unit: "x",
				Value:   ratios(samples[0], samples[1], sample.perSecond),
				Budget:  atLeast(1000),
				Figures: rate(medianOf(samples[0], sample.perSecond)) + " / " + rate(medianOf(samples[1], sample.perSecond)),
			})
		}
	}
	return nil
}

// keyServiceWaits seals through many changes of the data key and looks for requests that waited for the key service.
func keyServiceWaits(ctx context.Context, b *bench) error {
	const (
		size = 1 << 10
		// messagesPerKey is small, so that data keys change often. The last quarter takes longer than the key service
		// does, as it must: after all it is 2^30 messages by default.
		messagesPerKey = 100_000
	)
	changes := b.count(20)
	name := fmt.Sprintf("%d changes of the data key", changes)
	if !b.wants(name) {
		return nil
	}
	service, err := newSlowService(ctx)
	if err != nil {
		return err
	}
	envelope, err := aead.NewEnvelope(ctx, service, aead.WithMaxMessages(messagesPerKey))
	if err != nil {
		return err
	}
	defer envelope.Close()
	value, ad := payload(size), []byte("associated")
	buffer := make([]byte, 0, size+envelope.Overhead())
	first := service.calls.Load() // NewEnvelope's, before any request

	var messages, waited int
	var longest time.Duration
	for begin := time.Now(); service.calls.Load() < first+int64(changes) || service.running.Load() > 0; messages++ {
		if _, err := envelope.SealTo(ctx, buffer, value, ad); err != nil {
			return err
		}
		end := time.Now()
		latency := end.Sub(begin)
		longest = max(longest, latency)
		// It waited if the key service answered while it was under way, and it took long: a request that is merely
		// interrupted by the machine is no longer than the others at that moment.
		if answered := service.answered.Load(); latency > keyServiceDelay/5 && answered > begin.UnixNano() && answered < end.UnixNano() {
			waited++
		}
		begin = end
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	b.report(Result{
		Case: name, What: "requests that waited for the key service", Unit: "requests",
		Value: exactly(float64(waited)), Budget: atMost(0),
		Figures: fmt.Sprintf("of %d, longest %s", messages, took(longest)),
	})
	b.report(Result{
		Case: name, What: "calls to the key service per million messages", Unit: "calls",
		Value:   exactly(float64(service.calls.Load()-first) / float64(messages) * 1e6),
		Figures: fmt.Sprintf("limit of %d messages per data key; 2^30 by default", messagesPerKey),
	})
	return nil
}

// slowService is a key-encryption key that takes its time, as one behind a network does. (aeadtest.KeyService can do
// more, and wants a testing.TB.)
type slowService struct {
	kek      tink.AEAD
	calls    atomic.Int64
	running  atomic.Int64
	answered atomic.Int64 // Unix time in nanoseconds of the last answer
}

func newSlowService(ctx context.Context) (*slowService, error) {
	k, err := newKeys(ctx)
	if err != nil {
		return nil, err
	}
	k.close() // only Tink's primitive is used
	return &slowService{kek: k.tink}, nil
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
	s.running.Add(1)
	defer s.running.Add(-1)
	timer := time.NewTimer(keyServiceDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.answered.Store(time.Now().UnixNano())
	return nil
}
