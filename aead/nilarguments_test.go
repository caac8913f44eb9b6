package aead_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// pointerSource is a Source whose methods need a pointer that is not nil.
type pointerSource struct{ aead.Source }

// pointerAEAD is a tink.AEAD whose methods need a pointer that is not nil.
type pointerAEAD struct{ tink.AEAD }

// An interface that holds a nil pointer is not equal to nil. Constructors refuse it like nil, and do not panic later.
func TestNilPointersInInterfaces(t *testing.T) {
	t.Parallel()
	kek, template := newKeyring(t), tinkaead.AES256GCMKeyTemplate()
	var noSource *pointerSource
	var noOpener *opener
	var noWriter *bytes.Buffer
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"OpenKeyring":             {second(aead.OpenKeyring(t.Context(), noSource, kek)), "the source is nil"},
		"OpenPRF":                 {second(aead.OpenPRF(t.Context(), noSource, kek)), "the source is nil"},
		"OpenKEK":                 {second(aead.OpenKEK(t.Context(), "fake:x", noOpener)), "an opener that the caller gave is nil"},
		"WithTenantKEKs":          {second(aead.NewEnvelope(t.Context(), kek, aead.WithTenantKEKs("fake:{tenant}", noOpener))), "an opener that the caller gave is nil"},
		"CreateKeyset":            {aead.CreateKeyset(t.Context(), noWriter, kek, template), "the writer is nil"},
		"WithContext":             {second(aead.WithContext((*pointerAEAD)(nil)).EncryptWithContext(t.Context(), nil, nil)), "the given AEAD is nil"},
		"cleartext: OpenKeyring":  {second(insecurecleartextkeyset.OpenKeyring(t.Context(), noSource)), "the source is nil"},
		"cleartext: OpenPRF":      {second(insecurecleartextkeyset.OpenPRF(t.Context(), noSource)), "the source is nil"},
		"cleartext: Handle":       {second(insecurecleartextkeyset.Handle(t.Context(), noSource)), "the source is nil"},
		"cleartext: CreateKeyset": {insecurecleartextkeyset.CreateKeyset(noWriter, template), "the writer is nil"},
		"cleartext: Write":        {insecurecleartextkeyset.Write(noWriter, sealtest.Handle(t)), "the writer is nil"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: the error is %v, not %q", name, c.err, c.want)
		}
	}
}

// A zero Envelope does not end the process in a goroutine without a caller.
func TestZeroEnvelope(t *testing.T) {
	t.Parallel()
	var e aead.Envelope
	if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
		t.Error(err)
	}
}
