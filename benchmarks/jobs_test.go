package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// BenchmarkJobs enqueues and processes jobs over a real Redis, with eight producers and workers. A profile:
//
//	go test ./benchmarks -run '^$' -bench Jobs/sealed/16KiB -benchtime 20000x -cpuprofile cpu.out
func BenchmarkJobs(b *testing.B) {
	server := redistest.Start(b)
	k := testKeys(b)
	e, err := jobs.NewEncryptor(k.envelope)
	require.NoError(b, err)
	for _, form := range []string{"plaintext", "sealed"} {
		b.Run(form, func(b *testing.B) {
			for _, size := range jobSizes() {
				b.Run(benchName(size), func(b *testing.B) {
					var sealing *jobs.Encryptor
					if form == "sealed" {
						sealing = e
					}
					q, err := newQueue(form, server, 0, sealing)
					require.NoError(b, err)
					defer q.close()
					value := payload(size)
					b.SetBytes(int64(size))
					b.ReportAllocs()
					b.ResetTimer()
					for left := b.N; left > 0; {
						n := max(min(left, jobBatch(size)), 2)
						left -= n
						_, _, err := q.run(b.Context(), n, value)
						require.NoError(b, err)
					}
				})
			}
		})
	}
}
