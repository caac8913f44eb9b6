package asynqjobs

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// BenchmarkSeal and BenchmarkOpen are what sealing adds to a job, without asynq and Redis.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := &sealer{e: encryptorForTest(b)}
			t := asynq.NewTask("mail:send", make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				sealed, _, err := s.seal(context.Background(), t, nil, frame{}, false)
				if err != nil {
					b.Fatal(err)
				}
				s.release(sealed)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := encryptorForTest(b)
			s := &sealer{e: e}
			at := identity{queue: "default", id: uuid.NewString()}
			t, _, err := s.seal(context.Background(), asynq.NewTask("mail:send", make([]byte, size)), []asynq.Option{asynq.TaskID(at.id)}, frame{}, false)
			require.NoError(b, err)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := openTask(context.Background(), e, t.Type(), t.Payload(), t.Headers(), at, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func encryptorForTest(t testing.TB) *jobs.Encryptor {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	v, err := aead.NewEnvelope(t.Context(), k)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, v.Close())
		require.NoError(t, k.Close())
	})
	e, err := jobs.NewEncryptor(v)
	require.NoError(t, err)
	return e
}
