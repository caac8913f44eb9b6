// Package aeadtest tests implementations of tink.AEADWithContext, Tink's interface for encryption that detects altered
// bytes.
//
// [Run] is a conformance suite for every such implementation:
//
//	func TestMyAEAD(t *testing.T) {
//		aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return newMyAEAD(t) })
//	}
//
// If the implementation calls a key service, such as a cloud KMS, also call [RunRemote] with a function that returns a
// [Remote]. The Remote contains your functions that break a test instance of the service, and the function Heal that
// repairs it. RunRemote checks the errors of the implementation while the service is broken. It also checks that the
// implementation decrypts again after the repair.
//
// [KeyService] imitates a key service, for tests of code that calls a key service.
package aeadtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// Run checks an AEAD, one subtest for each rule. It calls newAEAD for each subtest. newAEAD returns a fresh AEAD
// under a separate key, and closes it with t.Cleanup if needed. If the AEAD implements aead.AppendAEAD, Run also
// checks SealTo and OpenTo. Subtests run in parallel.
//
// A ciphertext that does not open must fail with aead.ErrUnauthentic or aead.ErrUnknownKey.
//
// Limits are for key services that encrypt only certain lengths. Without Limits, Run tries lengths up to 64 KiB and one
// byte.
func Run(t *testing.T, newAEAD func(t *testing.T) tink.AEADWithContext, limits ...Limits) {
	t.Helper()
	var within Limits
	for _, l := range limits {
		within = l
	}
	for _, c := range append(cases(), appendCases()...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAEAD(t)
			s := &subject{T: t, AEADWithContext: a, limits: within}
			s.appending, _ = a.(aead.AppendAEAD)
			if c.appending && s.appending == nil {
				t.Skipf("the AEAD under test (%T) does not implement aead.AppendAEAD", a)
			}
			if c.name == "Empty" && within.MinPlaintext > 0 {
				t.Skip("Limits.MinPlaintext says that the AEAD under test does not encrypt an empty plaintext")
			}
			defer func() { // also after Fatalf
				if t.Failed() {
					t.Logf("this test checks the rule: %s", c.rule)
				}
			}()
			c.check(s)
		})
	}
}

// Limits are the lengths in bytes that an AEAD takes. A maximum of zero is none.
type Limits struct {
	MinPlaintext, MaxPlaintext, MaxAssociatedData int
}

type testCase struct {
	name, rule string
	appending  bool // needs aead.AppendAEAD
	check      func(*subject)
}

type subject struct {
	*testing.T
	tink.AEADWithContext
	appending aead.AppendAEAD
	limits    Limits
}

// takes returns those of some lengths that the subject takes.
func takes(lengths []int, least, most int) []int {
	return slices.DeleteFunc(lengths, func(n int) bool { return n < least || most > 0 && n > most })
}

// sizes returns the lengths of plaintexts to try.
func (s *subject) sizes() []int { return takes(sizes(), s.limits.MinPlaintext, s.limits.MaxPlaintext) }

func (s *subject) seal(plaintext, ad []byte) []byte {
	s.Helper()
	sealed, err := s.EncryptWithContext(s.Context(), plaintext, ad)
	if err != nil {
		s.Fatalf("EncryptWithContext failed for a plaintext of %d bytes: %v", len(plaintext), err)
	}
	return sealed
}

// noError ends the test if a call failed.
func (s *subject) noError(method string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s failed for valid arguments: %v", method, err)
	}
}

// refuses checks that a ciphertext does not open, in any of the ways there are.
func (s *subject) refuses(what string, sealed, ad []byte) {
	s.Helper()
	check := func(how string, opened []byte, err error) {
		s.Helper()
		switch {
		case err == nil:
			s.Errorf("%s %s: got no error\n(want one that wraps aead.ErrUnauthentic or aead.ErrUnknownKey)", how, what)
		case !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey):
			s.Errorf("%s %s: got error %q\n(want one that wraps aead.ErrUnauthentic or aead.ErrUnknownKey)", how, what, err)
		case opened != nil:
			s.Errorf("%s %s: got a slice of %d bytes beside the error, want nil", how, what, len(opened))
		}
	}
	opened, err := s.DecryptWithContext(s.Context(), sealed, ad)
	check("DecryptWithContext", opened, err)
	if s.appending == nil {
		return
	}
	opened, err = s.appending.OpenTo(s.Context(), []byte("before"), sealed, ad)
	check("OpenTo", opened, err)
	own := bytes.Clone(sealed)
	opened, err = s.appending.OpenTo(s.Context(), own[:0], own, ad)
	check("OpenTo with ciphertext[:0] as dst", opened, err)
}

func sizes() []int {
	return []int{0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 1000, 1024, 4095, 4096, 65537}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func cases() []testCase {
	return []testCase{
		{name: "RoundTrip", rule: "a ciphertext opens to the plaintext that was sealed, for all lengths of plaintext and associated data", check: checkRoundTrip},
		{name: "Empty", rule: "nil and empty are the same, as plaintext and as associated data; an empty plaintext opens to a non-nil slice", check: checkEmpty},
		{name: "InputKept", rule: "no call modifies its inputs or the memory after them, even if it fails because the associated data is wrong", check: checkInputKept},
		{name: "Randomized", rule: "the same message never becomes the same bytes twice", check: checkRandomized},
		{name: "Altered", rule: "opening a ciphertext with any byte altered returns only ErrUnauthentic or ErrUnknownKey. The unaltered one still opens", check: checkAltered},
		{name: "Truncated", rule: "opening a ciphertext cut at either end returns only ErrUnauthentic or ErrUnknownKey", check: checkTruncated},
		{name: "Extended", rule: "opening a ciphertext with bytes added at either end returns only ErrUnauthentic or ErrUnknownKey", check: checkExtended},
		{name: "AssociatedData", rule: "opening a ciphertext under other associated data returns only ErrUnauthentic or ErrUnknownKey", check: checkAssociatedData},
		{name: "Garbage", rule: "opening bytes that were never sealed returns only ErrUnauthentic or ErrUnknownKey, and does not panic", check: checkGarbage},
		{name: "Context", rule: "a call whose context has ended returns only an error, which wraps the error of the context. Later calls work", check: checkContext},
		{name: "Concurrent", rule: "any number of goroutines may seal and open at once", check: checkConcurrent},
	}
}

func checkRoundTrip(s *subject) {
	for _, n := range s.sizes() {
		for _, m := range takes([]int{0, 1, 13, 16, 100, 4000, 5000}, 0, s.limits.MaxAssociatedData) {
			plaintext, ad := random(n), random(m)
			opened, err := s.DecryptWithContext(s.Context(), s.seal(plaintext, ad), ad)
			if err != nil || !bytes.Equal(opened, plaintext) {
				s.Fatalf("DecryptWithContext %s the plaintext of %d bytes, sealed with %d bytes of associated data", outcome(opened, err), n, m)
			}
		}
	}
}

func checkEmpty(s *subject) {
	for _, plaintext := range [][]byte{nil, {}} {
		for _, sealedWith := range [][]byte{nil, {}} {
			sealed := s.seal(plaintext, sealedWith)
			for _, ad := range [][]byte{nil, {}} {
				opened, err := s.DecryptWithContext(s.Context(), sealed, ad)
				if err == nil && opened != nil && len(opened) == 0 {
					continue
				}
				got := fmt.Sprintf("%#v", opened)
				if err != nil {
					got = fmt.Sprintf("error %q", err)
				}
				s.Errorf("DecryptWithContext returned %s, want []byte{}\n(sealed %#v with associated data %#v, opened with %#v)", got, plaintext, sealedWith, ad)
			}
		}
	}
}

func checkInputKept(s *subject) {
	for _, n := range s.sizes() {
		// The room behind the slices reveals an AEAD that writes past their end.
		plaintext, ad := random(n + 64)[:n], random(100)[:32]
		wasPlain, wasAD := bytes.Clone(plaintext[:n+64]), bytes.Clone(ad[:100])
		sealed := append(s.seal(plaintext, ad), make([]byte, 64)...)
		sealed = sealed[: len(sealed)-64 : len(sealed)]
		wasSealed := bytes.Clone(sealed[:cap(sealed)])
		_, err := s.DecryptWithContext(s.Context(), sealed, ad)
		s.noError("DecryptWithContext", err)
		if _, err := s.DecryptWithContext(s.Context(), sealed, []byte("other")); err == nil {
			s.Fatal("DecryptWithContext opened a ciphertext under other associated data, want an error")
		}
		if !bytes.Equal(plaintext[:n+64], wasPlain) {
			s.Errorf("EncryptWithContext modified the plaintext (%d bytes) that it was given, or memory after it", n)
		}
		if !bytes.Equal(ad[:100], wasAD) {
			s.Errorf("EncryptWithContext or DecryptWithContext modified its associated data, or memory after it (plaintext of %d bytes)", n)
		}
		if !bytes.Equal(sealed[:cap(sealed)], wasSealed) {
			s.Errorf("for a plaintext of %d bytes, DecryptWithContext modified the ciphertext that it was given, or memory after it", n)
		}
	}
}

func checkRandomized(s *subject) {
	seen := make(map[string]bool)
	for range 1000 {
		seen[string(s.seal([]byte("the same message"), nil))] = true
	}
	if len(seen) != 1000 {
		s.Errorf("sealing the same message 1000 times returned only %d different ciphertexts, want 1000", len(seen))
	}
}

func checkAltered(s *subject) {
	for _, n := range takes([]int{0, 1, 33}, s.limits.MinPlaintext, 0) {
		ad := random(8)
		sealed := s.seal(random(n), ad)
		for i := range sealed {
			altered := bytes.Clone(sealed)
			altered[i] ^= 1 << (i % 8)
			s.refuses(fmt.Sprintf("for a ciphertext in which byte %d of %d was altered (plaintext of %d bytes)", i, len(sealed), n), altered, ad)
		}
		if _, err := s.DecryptWithContext(s.Context(), sealed, ad); err != nil {
			s.Errorf("DecryptWithContext failed for a valid ciphertext, after calls with altered copies of it: %v", err)
		}
	}
}

func checkTruncated(s *subject) {
	for _, n := range takes([]int{0, 33}, s.limits.MinPlaintext, 0) {
		sealed := s.seal(random(n), nil)
		for i := range sealed {
			s.refuses(fmt.Sprintf("for only the first %d of the %d bytes of a ciphertext", i, len(sealed)), sealed[:i], nil)
		}
		for _, i := range []int{1, 2, 4, 5, 12, len(sealed) / 2} {
			if i > len(sealed) {
				break
			}
			s.refuses(fmt.Sprintf("for a ciphertext without its first %d bytes", i), sealed[i:], nil)
		}
	}
}

func checkExtended(s *subject) {
	sealed := s.seal(random(33), nil)
	for _, n := range []int{1, 2, 16, 100} {
		s.refuses(fmt.Sprintf("for a ciphertext with %d bytes appended", n), append(bytes.Clone(sealed), make([]byte, n)...), nil)
		s.refuses(fmt.Sprintf("for a ciphertext with %d bytes put before it", n), append(make([]byte, n), sealed...), nil)
	}
	s.refuses("for a ciphertext that was appended to itself", append(bytes.Clone(sealed), sealed...), nil)
}

func checkAssociatedData(s *subject) {
	ad := []byte("associated data")
	sealed := s.seal([]byte("message"), ad)
	s.refuses("without the associated data that it was sealed with", sealed, nil)
	s.refuses("with associated data that lacks its last byte", sealed, ad[:len(ad)-1])
	s.refuses("with associated data that has one more byte", sealed, append(bytes.Clone(ad), 0))
	for i := range ad {
		other := bytes.Clone(ad)
		other[i] ^= 0x80
		s.refuses(fmt.Sprintf("with byte %d of the associated data altered", i), sealed, other)
	}
	s.refuses("with associated data, after sealing without any", s.seal([]byte("message"), nil), ad)
	// The border between the two inputs must not move.
	s.refuses(`with associated data "bc", after sealing "ab" with associated data "c"`, s.seal([]byte("ab"), []byte("c")), []byte("bc"))
}

func checkGarbage(s *subject) {
	s.refuses("for nil as ciphertext", nil, nil)
	for _, n := range []int{0, 1, 4, 5, 16, 28, 33, 99, 1000} {
		s.refuses(fmt.Sprintf("for %d bytes 0x00 as ciphertext", n), make([]byte, n), nil)
		s.refuses(fmt.Sprintf("for %d bytes 0xff as ciphertext", n), bytes.Repeat([]byte{0xff}, n), nil)
		s.refuses(fmt.Sprintf("for %d random bytes as ciphertext", n), random(n), nil)
	}
}

func checkContext(s *subject) {
	sealed := s.seal([]byte("message"), nil)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	out, err := s.EncryptWithContext(ctx, []byte("message"), nil)
	s.ended("EncryptWithContext", out, err)
	out, err = s.DecryptWithContext(ctx, sealed, nil)
	s.ended("DecryptWithContext", out, err)
	if _, err := s.DecryptWithContext(s.Context(), sealed, nil); err != nil {
		s.Errorf("DecryptWithContext with a live context failed after a call with a cancelled context: %v", err)
	}
}

// ended checks the results of a call with a cancelled context.
func (s *subject) ended(method string, out []byte, err error) {
	s.Helper()
	switch {
	case err == nil:
		s.Errorf("%s with a cancelled context returned no error, want one that wraps context.Canceled", method)
	case !errors.Is(err, context.Canceled):
		s.Errorf("%s with a cancelled context returned error %q, want one that wraps context.Canceled", method, err)
	case out != nil:
		s.Errorf("%s with a cancelled context returned a slice of %d bytes beside the error, want nil", method, len(out))
	}
}

// outcome describes a call that should have returned a plaintext. The plaintext is named after it.
func outcome(opened []byte, err error) string {
	if err != nil {
		return fmt.Sprintf("returned error %q, want", err)
	}
	return fmt.Sprintf("returned %d bytes that differ from", len(opened))
}

func checkConcurrent(s *subject) {
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range 50 {
				plaintext, ad := random(s.limits.MinPlaintext+i), random(i)
				sealed, err := s.EncryptWithContext(s.Context(), plaintext, ad)
				if err != nil {
					s.Errorf("EncryptWithContext failed with concurrent calls: %v", err)
					return
				}
				opened, err := s.DecryptWithContext(s.Context(), sealed, ad)
				if err != nil || !bytes.Equal(opened, plaintext) {
					s.Errorf("with concurrent calls, DecryptWithContext %s the plaintext of %d bytes", outcome(opened, err), len(plaintext))
					return
				}
			}
		})
	}
	wg.Wait()
}
