package storetest_test

import (
	"testing"
	"time"

	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/storetest"
)

// testConformance is the test that ExampleRun defines.
var testConformance func(t *testing.T)

// TestExampleRun runs the test that the example defines.
func TestExampleRun(t *testing.T) {
	t.Parallel()
	ExampleRun()
	testConformance(t)
}

// The test of a store calls Run with a function that opens a new, empty store and declares what the store can do. Write it as
// an ordinary test function, func TestConformance(t *testing.T). Without a declaration, Run prints one to start from.
func ExampleRun() {
	testConformance = func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			t.Helper()
			s, err := memorystore.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
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
	// Output:
}
