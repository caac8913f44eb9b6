// Package storetest is a conformance suite for gocache stores, plaintext or sealed.
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
// If the declaration is empty, Run prints one to start from.
//
// [Capabilities] declares, as data, what a store can do. A case that does not apply to a store is skipped with a reason.
// If the store lacks a declared feature, the case fails. If the store has a feature that is not declared, the case fails
// too. A known defect is thus part of the declaration, and the suite fails when the defect is mended.
//
// Each case states the rule that it checks, and prints it when it fails. A sealed store must pass the same cases and
// further ones: values come back in the type that they were set with, and the stored bytes show nothing.
package storetest
