package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// nearFreshness measures how soon a near cache shows the write of another client, and counts stale reads of own writes.
func nearFreshness(ctx context.Context, b *bench) {
	const others, own = "another client's write", "own writes"
	watchOthers, watchOwn := b.wants(others), b.wants(own)
	if !watchOthers && !watchOwn {
		return
	}
	c := b.contenders(ctx, deployment{}, []contenderKind{
		{name: "read", own: true, sealed: true, change: withNearCache},
		{name: "writ", own: true, sealed: true},
	})
	if watchOthers {
		seenWrites(ctx, b, others, c[0].store, c[1].store)
	}
	if !watchOwn {
		return
	}
	stale, n := 0, b.count(20_000)
	for i := range n {
		want := binary.BigEndian.AppendUint64(nil, uint64(i))
		b.Check(c[0].store.Set(ctx, "own", want))
		got, err := readBytes(ctx, c[0].store, "own")
		b.Check(err)
		if !bytes.Equal(got, want) {
			stale++
		}
	}
	b.report(Result{
		Case: own, What: "stale reads after a set of the same client", Unit: "reads", Value: exactly(float64(stale)),
		Budget: atMost(0), Figures: strconv.Itoa(n) + " writes",
	})
}

// seenTimeout ends the wait for a write that the near cache does not show.
const seenTimeout = 10 * time.Second

// seenWrites measures the time from the end of a set of one client until a hot reader sees the value.
func seenWrites(ctx context.Context, b *bench, name string, reader, writer store.StoreInterface) {
	var times []time.Duration
	for i := range b.count(2000) {
		want := binary.BigEndian.AppendUint64(nil, uint64(i))
		for range 3 { // the entry is in the near cache
			readOther(ctx, b, reader)
		}
		b.Check(writer.Set(ctx, "other", want))
		for set := time.Now(); ; {
			got := readOther(ctx, b, reader)
			took := time.Since(set)
			if bytes.Equal(got, want) {
				times = append(times, took)
				break
			}
			if took > seenTimeout {
				b.Check(fmt.Errorf("the near cache still returned the old value %v after another client had changed it", seenTimeout))
			}
		}
	}
	slices.Sort(times)
	b.report(Result{
		Case: name, What: "p99 of the time until it is seen", Unit: "ms", Value: exactly(percentile(times, 99).Seconds() * 1000),
		Budget: atMost(25), Figures: "median " + took(percentile(times, 50)),
	})
}

// readOther returns nil if there is no entry yet.
func readOther(ctx context.Context, b *bench, s store.StoreInterface) []byte {
	got, err := readBytes(ctx, s, "other")
	if !errors.As(err, new(*store.NotFound)) {
		b.Check(err)
	}
	return got
}

func readBytes(ctx context.Context, s store.StoreInterface, key string) ([]byte, error) {
	got, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	b, ok := got.([]byte)
	if !ok {
		return nil, errAnotherValue
	}
	return b, nil
}
