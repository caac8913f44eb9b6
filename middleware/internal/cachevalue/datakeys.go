package cachevalue

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// SCAN names entries in no order, and each may be sealed under its own data key. A key service needs milliseconds to
// unwrap one. A run would spend most of its time waiting if it unwrapped one at a time, or unwrapped keys again that an
// aead.Envelope has dropped.
const (
	// dataKeysAtOnce is how many data keys a worker uses at a time, few compared with what an Envelope holds.
	dataKeysAtOnce = 32
	// unwrapsAtOnce is how many unwraps run at a time, as many as an Envelope allows.
	unwrapsAtOnce = 16
)

// ByDataKey visits n values, those under one data key together, and unwraps some data keys in advance. dataKey names the
// data key of a value, or is empty if the value is not opened. open opens a value and drops the result; it must be safe
// for concurrent use. visit runs in the caller's goroutine.
func ByDataKey(ctx context.Context, n int, dataKey func(i int) string, open func(ctx context.Context, i int), visit func(i int) error) error {
	keys, order := make([]string, n), make([]int, n)
	several := false
	for i := range n {
		keys[i], order[i] = dataKey(i), i
		several = several || keys[i] != keys[0]
	}
	if several {
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(keys[i], keys[j]) })
	}
	for len(order) > 0 {
		var firsts []int // one of each data key
		end := 0
		for ; end < len(order); end++ {
			i := order[end]
			if keys[i] == "" || len(firsts) > 0 && keys[i] == keys[firsts[len(firsts)-1]] {
				continue
			}
			if len(firsts) == dataKeysAtOnce {
				break
			}
			firsts = append(firsts, i)
		}
		if len(firsts) > 1 {
			var g errgroup.Group
			g.SetLimit(unwrapsAtOnce)
			for _, i := range firsts {
				g.Go(func() error {
					if ctx.Err() == nil {
						open(ctx, i)
					}
					return nil
				})
			}
			_ = g.Wait() // the failure occurs again when the value is visited
		}
		for _, i := range order[:end] {
			if err := visit(i); err != nil {
				return err
			}
		}
		order = order[end:]
	}
	return nil
}

// DataKey returns the wrapped data key of a stored cache value, or "" if it has none.
func DataKey(stored []byte) string {
	_, n, ok := Header(stored)
	if !ok {
		return ""
	}
	return string(wire.KeyOf(stored[n:]).Wrapped)
}
