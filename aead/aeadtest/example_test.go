package aeadtest_test

import (
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// testMyAEAD is the test that ExampleRun defines.
var testMyAEAD func(t *testing.T)

// TestExampleRun runs the test that the example defines.
func TestExampleRun(t *testing.T) {
	t.Parallel()
	ExampleRun()
	testMyAEAD(t)
}

// The test of an AEAD calls Run with a function that returns a new AEAD under its own key. Write it as an ordinary test
// function, func TestMyAEAD(t *testing.T).
func ExampleRun() {
	testMyAEAD = func(t *testing.T) {
		aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
			t.Helper()
			handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
			if err != nil {
				t.Fatal(err)
			}
			primitive, err := tinkaead.New(handle)
			if err != nil {
				t.Fatal(err)
			}
			return aead.WithContext(primitive)
		})
	}
	// Output:
}
