package main

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
)

// bytesRow asks Redis for the lengths of its values. It measures no time.
func bytesRow(ctx context.Context, b *bench) {
	k := b.keys(ctx)
	server, _ := b.redis(ctx, 0)
	for _, c := range []struct {
		name   string
		aead   tink.AEADWithContext
		budget *Budget
	}{
		{"keyring", k.keyring, atMost(41)},
		{"envelope under a local KEK", k.envelope, atMost(107)},
	} {
		if !b.wants(c.name) {
			continue
		}
		added := bytesAdded(ctx, b, server, c.aead)
		b.report(Result{
			Case: c.name, What: "stored - given, any type and size", Unit: "bytes",
			Value: spreadOf(added), Budget: c.budget,
			Figures: fmt.Sprintf("1 KiB: %d", 1<<10+int(added[0])),
		})
	}
}

// bytesAdded returns STRLEN of sealed values less the bytes of the values. It uses bytes of several sizes, texts and
// numbers, over both Redis stores.
func bytesAdded(ctx context.Context, b *bench, server *redistest.Server, a tink.AEADWithContext) []float64 {
	type given struct {
		value any
		bytes int
	}
	values := []given{{[]byte{}, 0}, {"a text", 6}, {int64(42), 8}, {true, 1}, {3.5, 8}}
	for _, size := range sizes() {
		values = append(values, given{payload(size), size})
	}
	var added []float64
	for _, own := range []bool{true, false} {
		c, err := newContender("bytes", server, own, a)
		b.Check(err)
		defer c.close()
		for _, v := range values {
			b.Check(c.store.Set(ctx, c.name, v.value))
			stored, err := c.client.StrLen(ctx, c.name).Result()
			b.Check(err)
			added = append(added, float64(int(stored)-v.bytes))
		}
	}
	return added
}
