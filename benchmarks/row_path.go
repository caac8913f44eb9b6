package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// pathRow compares the whole path of a value, Store.Set and Store.Get, with Tink's primitive on the same bytes. The
// primitive runs Encrypt and Decrypt, with the key's name as associated data.
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
		bare := bareSide(k.tink, value)
		envelope, _, err := storeSide(ctx, "envelope", "set + get", k.envelope, value)
		if err != nil {
			return err
		}
		keyring, _, err := storeSide(ctx, "keyring", "set + get", k.keyring, value)
		if err != nil {
			return err
		}
		sides := []side{bare, envelope, keyring}
		samples, err := interleave(ctx, b.plan(40, 20*time.Millisecond), sides...)
		if err != nil {
			return err
		}
		for i, s := range sides[1:] {
			theirs, ours := samples[0], samples[i+1]
			what, time1 := "CPU time", sample.cpuNanoseconds
			if !cpuKnown(theirs, ours) {
				what, time1 = "time", sample.nanoseconds
			}
			b.report(Result{
				Case: name, What: "set + get, " + what + ", " + s.name + " / Tink primitive", Unit: "x",
				Value:  ratios(ours, theirs, time1),
				Budget: budgets[size],
				Figures: fmt.Sprintf("%s / %s; by the clock %sx", took(time.Duration(medianOf(ours, time1))),
					took(time.Duration(medianOf(theirs, time1))), number(ratios(ours, theirs, sample.nanoseconds).Median)),
			})
		}
		for _, s := range sides {
			n, err := allocations(ctx, s, b.count(2000))
			if err != nil {
				return err
			}
			r := Result{Case: name, What: "allocations, " + s.name, Unit: "allocs", Value: exactly(n)}
			if s.name != bare.name {
				r.Budget = atMost(2)
			}
			b.report(r)
		}
	}
	return nil
}

// bareSide returns the work of a program that uses Tink directly.
func bareSide(a tink.AEAD, value []byte) side {
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
	return side{name: "Tink primitive", do: do}
}
