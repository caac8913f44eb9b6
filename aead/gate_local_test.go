package aead

import (
	"runtime"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// An attacker who plants made-up data keys under a local KEK keeps at most half of the processors busy.
func TestLocalUnwrapsLeaveProcessors(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	kek, err := NewKeyring(h)
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	e, err := NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	began := 0
	for i := range 1000 {
		turn, err := e.gate.join([]byte{byte(i), byte(i >> 8)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-turn.admitted:
			began++
		default:
		}
	}
	if want := min(max(runtime.GOMAXPROCS(0)/2, 1), unwrapParallel); began != want {
		t.Errorf("%d unwraps began at a time, want %d", began, want)
	}
}
