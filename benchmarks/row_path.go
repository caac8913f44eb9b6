package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// pathRow compares the whole path of a value, Store.Set and Store.Get, with Tink's primitive on the same bytes. The
// primitive runs Encrypt and Decrypt, with the key's name as associated data.
func pathRow(ctx context.Context, b *bench) {
	k := b.keys(ctx)
	budgets := map[int]*Budget{64: atMost(1.25), 1 << 10: atMost(1), 16 << 10: atMost(0.7), 256 << 10: atMost(0.7)}
	for _, size := range sizes() {
		name := sizeName(size)
		if !b.wants(name) {
			continue
		}
		value := payload(size)
		bare := bareSide(k.tink, value)
		envelope, _ := b.storeSide(ctx, "envelope", "set + get", k.envelope, value)
		keyring, _ := b.storeSide(ctx, "keyring", "set + get", k.keyring, value)
		sides := []side{bare, envelope, keyring}
		samples := b.interleave(ctx, b.plan(40, 20*time.Millisecond), sides...)
		for i, s := range sides[1:] {
			theirs, ours := samples[0], samples[i+1]
			what, figure := workTime(theirs, ours)
			b.report(Result{
				Case: name, What: "set + get, " + what + ", " + s.name + " / Tink primitive", Unit: "x",
				Value:  ratios(ours, theirs, figure),
				Budget: budgets[size],
				Figures: fmt.Sprintf("%s / %s; by the clock %sx", took(time.Duration(medianOf(ours, figure))),
					took(time.Duration(medianOf(theirs, figure))), number(ratios(ours, theirs, sample.nanoseconds).Median)),
			})
		}
		for _, s := range sides {
			n, err := allocations(ctx, s, b.count(2000))
			b.Check(err)
			r := Result{Case: name, What: "allocations, " + s.name, Unit: "allocs", Value: exactly(n)}
			if s.name != bare.name {
				r.Budget = atMost(2)
			}
			b.report(r)
		}
	}
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
