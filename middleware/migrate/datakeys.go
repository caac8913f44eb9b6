package migrate

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// SCAN names entries in no order, and each may be sealed under a data key of its own. A key service is asked for one that
// is not known, which takes milliseconds: one after the other, and again for the same ones when more are in use than an
// aead.Envelope holds, that would be what a run mostly does.
const (
	// dataKeysAtOnce is how many data keys a worker has in use at a time, little against what an Envelope holds.
	dataKeysAtOnce = 32
	// unwrapsAtOnce is how many of them are asked for at a time, which is what an Envelope asks for.
	unwrapsAtOnce = 16
)

// byDataKey visits n values, those under one data key one after the other, and has some data keys at a time unwrapped
// before. dataKey names that of a value, or is empty for one that is not opened. open opens one, to no other end. Both
// have to do for concurrent use; visit is called from here.
func byDataKey(ctx context.Context, n int, dataKey func(i int) string, open func(ctx context.Context, i int), visit func(i int) error) error {
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
			_ = g.Wait() // what fails here fails again when it is visited
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

// dataKeyOf is the wrapped data key of the ciphertext of a sealed value, empty if it has none.
func dataKeyOf(ct []byte) string {
	c := wire.Peek(ct)
	if !c.Envelope {
		return ""
	}
	return string(ct[4 : 4+c.WrappedBytes])
}

// visit visits values by their data keys.
func (m *migration) visit(ctx context.Context, n int, value func(i int) (place, []byte), visit func(i int) error) error {
	dataKey := func(i int) string {
		_, old := value(i)
		_, n, ok := cacheHeader(old)
		if !ok {
			return ""
		}
		return dataKeyOf(old[n:])
	}
	open := func(ctx context.Context, i int) {
		p, old := value(i)
		_, n, _ := cacheHeader(old)
		_, _ = openAny(ctx, new(scratch), m.opens, m.keys.is(old[n:]), p.key, old, n)
	}
	return byDataKey(ctx, n, dataKey, open, visit)
}
