// Package storetest is a conformance suite for gocache stores, clear or sealed.
//
// A test of a store calls [Run] with a function that makes one, fresh and empty, for each case:
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
//					BoundedRead: true,
//					Ping:             true,
//					InvalidatePrefix: true,
//				},
//			}
//		})
//	}
//
// With no declaration at all, Run prints one to start from.
//
// What a store can do is declared, as data, in [Capabilities]. A case that does not apply to a store is skipped and
// says why. What is declared and does not hold fails, and so does what holds and is not declared, where a test can
// tell: a known defect of a store is written down in its declaration, and the suite notices when it is mended.
//
// Each case carries the rule that it checks, and fails with it. Through a sealed store the cases are the same and there
// are more: values come back in the type they were given in, and what lies in the backing store shows nothing.
//
// Package redistest, below this one, starts real Redis servers.
package storetest
