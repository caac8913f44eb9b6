package storetest_test

import (
	"testing"
	"time"

	redisstore "github.com/eko/gocache/store/redis/v4"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/storetest"
)

// This is gocache's own Redis store in plaintext, as an application without this module uses it.
func TestGocacheRedis(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store: redisstore.NewRedis(client),
			Can: storetest.Capabilities{
				Bytes:          storetest.AsString,
				Strings:        storetest.AsString,
				Scalars:        storetest.AsString,
				CopiesBytes:    true,
				AnyKey:         true,
				MissIsNotFound: true,
				DeleteMissing:  true,
				Clear:          true,
				HeedsContext:   true,
				TTL:            storetest.TTL{PerEntry: true, Resolution: time.Second, Reported: true, None: -1},
				Tags:           true,
				SetIfNotExists: true,
			},
		}
	})
}
