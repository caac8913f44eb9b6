package main

import (
	"context"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// hiddenRow measures the processor time that hidden names add to a set and to a get of 1 KiB.
func hiddenRow(ctx context.Context, b *bench) error {
	k, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	names, err := newNames(ctx, k)
	if err != nil {
		return err
	}
	value := payload(1 << 10)
	for _, operation := range []string{"set", "get"} {
		name := operation + ", 1 KiB"
		if !b.wants(name) {
			continue
		}
		var sides []side
		for _, c := range []struct {
			name string
			opts []middleware.Option
		}{
			{"visible", nil},
			{"WithHiddenKeys", []middleware.Option{middleware.WithHiddenKeys(names)}},
			{"WithOneWayKeys", []middleware.Option{middleware.WithOneWayKeys(names)}},
		} {
			s, err := hiddenSide(ctx, k, operation, value, c.opts)
			if err != nil {
				return err
			}
			s.name = c.name
			sides = append(sides, s)
		}
		samples, err := interleave(ctx, b.plan(41, 20*time.Millisecond), sides...)
		if err != nil {
			return err
		}
		time1 := sample.cpuNanoseconds
		if !cpuKnown(samples...) {
			time1 = sample.nanoseconds
		}
		for i, s := range sides[1:] {
			hidden, visible := samples[i+1], samples[0]
			b.report(Result{
				Case: name, What: s.name + " - visible names", Unit: "µs", Value: differences(hidden, visible, time1, time.Microsecond),
				Budget:  atMost(1.5),
				Figures: took(time.Duration(medianOf(hidden, time1))) + " - " + took(time.Duration(medianOf(visible, time1))),
			})
		}
	}
	return nil
}

// hiddenSide returns an operation on a Store over a backing store that costs almost nothing.
func hiddenSide(ctx context.Context, k *keys, operation string, value []byte, opts []middleware.Option) (side, error) {
	backing := new(thinStore)
	s, err := middleware.New(backing, k.envelope, append(opts, middleware.WithNamespace("benchmark"))...)
	if err != nil {
		return side{}, err
	}
	key, boxed := any(pathKey), any(value)
	if err := roundTrip(ctx, s, key, value); err != nil {
		return side{}, err
	}
	if operation == "set" {
		return side{do: func(ctx context.Context, _, _ int) error { return s.Set(ctx, key, boxed) }}, checkSealed(backing.stored, value)
	}
	return side{do: func(ctx context.Context, _, _ int) error {
		got, err := s.Get(ctx, key)
		if err == nil && lengthOf(got) != len(value) {
			err = errAnotherValue
		}
		return err
	}}, checkSealed(backing.stored, value)
}
