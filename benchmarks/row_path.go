package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
)

const pathKey = "user:4711:profile"

// pathRow holds the whole path of a value, Store.Set and Store.Get, against Tink's primitive on the same bytes: Encrypt
// and Decrypt, with the key's name as associated data.
func pathRow(ctx context.Context, b *bench) error {
	k, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	budgets := map[int]*Budget{64: atMost(1.25), 1 << 10: atMost(1), 16 << 10: atMost(0.7), 256 << 10: atMost(0.7)}
	for _, size := range sizes() {
		name := sizeName(size)
		if !b.wants(name) {
			continue
		}
		value := payload(size)
		bare, err := bareSide(k.tink, value)
		if err != nil {
			return err
		}
		envelope, err := storeSide(ctx, "envelope", k.envelope, value)
		if err != nil {
			return err
		}
		keyring, err := storeSide(ctx, "keyring", k.keyring, value)
		if err != nil {
			return err
		}
		sides := []side{bare, envelope, keyring}
		samples, err := interleave(ctx, b.plan(25, 25*time.Millisecond), sides...)
		if err != nil {
			return err
		}
		for i, s := range sides[1:] {
			tinkTime := medianOf(samples[0], sample.nanoseconds)
			ours := medianOf(samples[i+1], sample.nanoseconds)
			b.report(Result{
				Case: name, What: "set + get, " + s.name + " / Tink primitive", Unit: "x",
				Value:   ratios(samples[i+1], samples[0], sample.nanoseconds),
				Budget:  budgets[size],
				Figures: fmt.Sprintf("%s / %s", took(time.Duration(ours)), took(time.Duration(tinkTime))),
			})
		}
		for _, s := range sides {
			n, err := allocations(ctx, s, b.count(2000))
			if err != nil {
				return err
			}
			r := Result{Case: name, What: "allocations, " + s.name, Unit: "allocs", Value: exactly(n)}
			if s.name != bare.name {
				// A collection during the count empties a pool, which is a fraction of an allocation per call.
				r.Value, r.Budget = exactly(float64(int(n+0.05))), atMost(2)
			}
			b.report(r)
		}
	}
	return nil
}

// storeSide is a Store over nearly nothing.
func storeSide(ctx context.Context, name string, a tink.AEADWithContext, value []byte) (side, error) {
	backing := new(thinStore)
	s, err := middleware.New(backing, a)
	if err != nil {
		return side{}, err
	}
	// gocache's interface takes any: what converting costs, the caller pays with and without sealing.
	key, boxed := any(pathKey), any(value)
	do := func(ctx context.Context, _, _ int) error {
		if err := s.Set(ctx, key, boxed); err != nil {
			return err
		}
		got, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		if lengthOf(got) != len(value) {
			return errAnotherValue
		}
		return nil
	}
	if err := roundTrip(ctx, s, key, value); err != nil {
		return side{}, err
	}
	return side{name, do}, checkSealed(backing.stored, value)
}

// bareSide is what a program does that uses Tink itself.
func bareSide(a tink.AEAD, value []byte) (side, error) {
	ad := []byte(pathKey)
	do := func(context.Context, int, int) error {
		sealed, err := a.Encrypt(value, ad)
		if err != nil {
			return err
		}
		opened, err := a.Decrypt(sealed, ad)
		if err != nil {
			return err
		}
		if len(opened) != len(value) {
			return errAnotherValue
		}
		return nil
	}
	return side{"Tink primitive", do}, nil
}
