// Package storetest is a test suite for stores of gocache (github.com/eko/gocache). It tests stores that hold plaintext,
// and stores that seal (encrypt) values.
//
// A test calls [Run] with a function that returns a new, empty store for each case:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Subject {
//			s, err := mystore.New()
//			if err != nil {
//				t.Fatal(err)
//			}
//			t.Cleanup(func() { _ = s.Close() })
//			return storetest.Subject{Store: s, Can: storetest.Capabilities{}}
//		})
//	}
//
// Begin with empty [Capabilities], as here. Run then fails, and prints the Capabilities that the store seems to have.
// Copy these into the test, and check them. Capabilities say what a store can do, for example:
//
//	storetest.Capabilities{
//		Bytes:          storetest.AsGiven, // a []byte comes back as a []byte
//		MissIsNotFound: true,              // the error for a missing entry is store.NotFound
//		Tags:           true,              // Invalidate deletes the entries with a tag
//	}
//
// The test fails if a store lacks a listed feature. For most features, it also fails if the store has one that is not
// listed. So when a defect of a store is fixed, the test fails until you change the list. A case that does not apply to a
// store is skipped, and the reason is printed.
//
// When a case fails, it prints the rule that it checks. For a store that seals values, also set Capabilities.Sealed,
// Subject.Raw and Subject.Plant. Additional cases then run. For example, the stored bytes must not contain the value.
// Values must also keep their Go type.
package storetest
