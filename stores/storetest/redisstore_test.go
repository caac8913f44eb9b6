package storetest_test

import (
	"testing"
	"time"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
	"github.com/sealcache/sealcache/stores/storetest"
)

func TestRedisstore(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		s, err := redisstore.New(client)
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store: s,
			Can: storetest.Capabilities{
				Bytes:          storetest.AsBytes,
				Strings:        storetest.AsBytes,
				Scalars:        storetest.AsBytes,
				CopiesBytes:    true,
				AnyKey:         true,
				KeyErrors:      true,
				MissIsNotFound: true,
				DeleteMissing:  true,
				Clear:          true,
				HeedsContext:   true,
				TTL: storetest.TTL{
					PerEntry:        true,
					Resolution:      time.Millisecond,
					Reported:        true,
					NegativeIsError: true,
				},
				Tags:             true,
				ConcurrentTags:   true,
				SetIfNotExists:   true,
				Swap:             true,
				Enumerate:        true,
				OwnedBytes:       true,
				BoundedRead:      true,
				Ping:             true,
				InvalidatePrefix: true,
			},
		}
	})
}
