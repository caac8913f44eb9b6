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
// If Subject.Can is empty, Run fails and prints a value of Capabilities to start from.
//
// [Capabilities] lists what a store can do. The suite skips a case that does not apply to a store, and prints the reason. If the
// store lacks a declared feature, the case fails. If the store has a feature that is not declared, the case fails too. So a known
// defect is also declared. When the defect is fixed, the suite fails until you change the declaration.
//
// Each case states the rule that it checks, and prints the rule when it fails. A sealed store must pass the same cases. In
// addition, values must keep their Go type, and the stored bytes must not contain the value.
package storetest
