package memorystore_test

import (
	"testing"
	"time"

	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		s, err := memorystore.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return storetest.Subject{
			Store: s,
			Can: storetest.Capabilities{
				Bytes:          storetest.AsGiven,
				Strings:        storetest.AsGiven,
				Scalars:        storetest.AsString,
				CopiesBytes:    true,
				AnyKey:         true,
				KeyErrors:      true,
				MissIsNotFound: true,
				DeleteMissing:  true,
				Clear:          true,
				HeedsContext:   true,
				TTL: storetest.TTL{
					PerEntry:        true,
					Resolution:      time.Microsecond,
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
