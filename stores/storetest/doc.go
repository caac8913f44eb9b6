// Package storetest is a test suite for stores of gocache (github.com/eko/gocache). A store can hold plaintext or sealed
// (encrypted) values.
//
// A test calls [Run] with a function that returns a new, empty store for each case:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Subject {
//			s, err := memorystore.New()
//			if err != nil {
//				t.Fatal(err)
//			}
//			t.Cleanup(func() { _ = s.Close() })
//			return storetest.Subject{
//				Store: s,
//				Can: storetest.Capabilities{
//					Bytes:            storetest.AsGiven,
//					Strings:          storetest.AsGiven,
//					Scalars:          storetest.AsString,
//					CopiesBytes:      true,
//					AnyKey:           true,
//					KeyErrors:        true,
//					Clear:            true,
//					MissIsNotFound:   true,
//					DeleteMissing:    true,
//					HeedsContext:     true,
//					TTL:              storetest.TTL{PerEntry: true, Resolution: time.Millisecond, Reported: true, NegativeIsError: true},
//					Tags:             true,
//					ConcurrentTags:   true,
//					SetIfNotExists:   true,
//					Swap:             true,
//					Enumerate:        true,
//					OwnedBytes:       true,
//					BoundedRead:      true,
//					Ping:             true,
//					InvalidatePrefix: true,
//				},
//			}
//		})
//	}
//
// [Capabilities] lists what a store can do. If it is empty, Run fails and prints a value to start from.
//
// The test fails if a store lacks a listed feature. It also fails if a store has a feature that is not listed. So when a
// defect of a store is fixed, the test fails until you change the list. A case that does not apply to a store is skipped,
// and the reason is printed.
//
// When a case fails, it prints the rule that it checks. A sealed store must pass the same cases. In addition, values must
// keep their Go type, and the stored bytes must not contain the value.
package storetest
