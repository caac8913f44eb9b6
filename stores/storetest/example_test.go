package storetest_test

import (
	"testing"
	"time"

	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/storetest"
)

// A test of a store calls Run with a function that opens a new, empty store and declares what it can do.
func ExampleRun() {
	_ = func(t *testing.T) { // TestConformance, in the package of the store
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
					MissIsNotFound: true,
					DeleteMissing:  true,
					TTL:            storetest.TTL{PerEntry: true, Resolution: time.Millisecond, Reported: true},
					// and so on: without a declaration, Run prints one to start from
				},
			}
		})
	}
	// Output:
}
