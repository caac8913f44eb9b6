package main

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
)

// BenchmarkRedis sets and gets over a real Redis, with eight clients. A profile:
//
//	go test ./benchmarks -run '^$' -bench Redis/Set/redisstore/sealed/1KiB -cpuprofile cpu.out
func BenchmarkRedis(b *testing.B) {
	server := redistest.Start(b)
	k := testKeys(b)
	for _, op := range []string{"Set", "Get"} {
		for _, backing := range []string{"redisstore", "gocache"} {
			for _, form := range []string{"plaintext", "sealed"} {
				var a tink.AEADWithContext
				if form == "sealed" {
					a = k.envelope
				}
				b.Run(op+"/"+backing+"/"+form, func(b *testing.B) {
					each(b, func(b *testing.B, value []byte) {
						c, err := newContender("bench", server, backing == "redisstore", a)
						require.NoError(b, err)
						defer c.close()
						require.NoError(b, c.fill(b.Context(), 64, value))
						s := c.set(1, value)
						if op == "Get" {
							s = c.get(1, value)
						}
						b.ResetTimer()
						runParallel(b, s)
					})
				})
			}
		}
	}
}

func runParallel(b *testing.B, s side) {
	b.Helper()
	var workers atomic.Int64
	b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		ctx := context.Background()
		for i := int(workers.Add(1)); pb.Next(); i++ {
			if err := s.do(ctx, 0, i); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
