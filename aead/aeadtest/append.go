package aeadtest

import (
	"bytes"
	"context"
	"slices"
	"unsafe"
)

func appendCases() []testCase {
	return []testCase{
		{name: "SealTo", appending: true, rule: "SealTo appends to dst a ciphertext that DecryptWithContext opens. It changes neither the plaintext nor the bytes in dst", check: checkSealTo},
		{name: "OpenTo", appending: true, rule: "OpenTo appends the plaintext to dst, or fails under other associated data. It changes neither the ciphertext nor the bytes in dst", check: checkOpenTo},
		{name: "OpenToInPlace", appending: true, rule: "with ciphertext[:0] as dst, OpenTo writes the plaintext over the ciphertext, and writes nowhere else", check: checkInPlace},
		{name: "AppendContext", appending: true, rule: "if their context has ended, SealTo and OpenTo return only an error, which wraps the error of the context", check: checkAppendContext},
		{name: "Room", appending: true, rule: "if dst has enough capacity, SealTo and OpenTo write into dst. The method Overhead returns how many bytes SealTo adds at most", check: checkRoom},
	}
}

func checkSealTo(s *subject) {
	ad := []byte("associated data")
	for _, n := range s.sizes() {
		plaintext := random(n)
		was := bytes.Clone(plaintext)
		for _, room := range []int{0, 1, n, n + 200} {
			dst := append(make([]byte, 0, 6+room), "before"...)
			sealed, err := s.appending.SealTo(s.Context(), dst, plaintext, ad)
			s.noError("SealTo", err)
			if !bytes.HasPrefix(sealed, []byte("before")) {
				s.Fatalf("SealTo returned bytes that do not begin with those of dst (plaintext of %d bytes, spare capacity of dst %d)", n, room)
			}
			opened, err := s.DecryptWithContext(s.Context(), sealed[6:], ad)
			if err != nil || !bytes.Equal(opened, plaintext) {
				s.Fatalf("DecryptWithContext %s the plaintext of %d bytes that SealTo sealed (spare capacity of dst %d)", outcome(opened, err), n, room)
			}
		}
		if !bytes.Equal(plaintext, was) {
			s.Errorf("SealTo modified the plaintext that it was given (%d bytes)", n)
		}
	}
	sealed, err := s.appending.SealTo(s.Context(), nil, nil, nil)
	s.noError("SealTo", err)
	if opened, err := s.DecryptWithContext(s.Context(), sealed, nil); err != nil || len(opened) != 0 {
		s.Errorf("after SealTo with nil as dst and plaintext, DecryptWithContext %s the empty plaintext", outcome(opened, err))
	}
}

func checkOpenTo(s *subject) {
	ad := []byte("associated data")
	for _, n := range s.sizes() {
		plaintext := random(n)
		sealed := s.seal(plaintext, ad)
		was := bytes.Clone(sealed)
		for _, room := range []int{0, 1, n, n + 200} {
			dst := append(make([]byte, 0, 6+room), "before"...)
			opened, err := s.appending.OpenTo(s.Context(), dst, sealed, ad)
			s.noError("OpenTo", err)
			after, kept := bytes.CutPrefix(opened, []byte("before"))
			if !kept {
				s.Fatalf("OpenTo returned bytes that do not begin with those of dst (plaintext of %d bytes, spare capacity of dst %d)", n, room)
			}
			if !bytes.Equal(after, plaintext) {
				s.Fatalf("after dst, OpenTo %s the plaintext of %d bytes (spare capacity of dst %d)", outcome(after, nil), n, room)
			}
			if string(dst) != "before" {
				s.Fatalf("OpenTo changed the bytes that dst held before (plaintext of %d bytes, spare capacity of dst %d)", n, room)
			}
			if _, err := s.appending.OpenTo(s.Context(), dst, sealed, nil); err == nil {
				s.Fatal("OpenTo opened a ciphertext under other associated data, want an error")
			}
			if string(dst) != "before" {
				s.Fatalf("a call of OpenTo that failed changed the bytes that dst held before (plaintext of %d bytes)", n)
			}
		}
		if !bytes.Equal(sealed, was) {
			s.Errorf("for a plaintext of %d bytes, OpenTo modified the ciphertext that it was given", n)
		}
	}
}

func checkInPlace(s *subject) {
	ad := []byte("associated data")
	for _, n := range s.sizes() {
		plaintext := random(n)
		sealed := s.seal(plaintext, ad)
		// The ciphertext in the midst of a larger buffer, as behind a header.
		buf := slices.Concat(bytes.Repeat([]byte{0xee}, 40), sealed, bytes.Repeat([]byte{0xee}, 40))
		own := buf[40 : 40+len(sealed)]
		opened, err := s.appending.OpenTo(s.Context(), own[:0], own, ad)
		if err != nil || !bytes.Equal(opened, plaintext) {
			s.Fatalf("OpenTo with ciphertext[:0] as dst %s the plaintext of %d bytes", outcome(opened, err), n)
		}
		if n > 0 && !within(opened, own) {
			s.Errorf("OpenTo did not write the plaintext of %d bytes over the ciphertext, although dst was ciphertext[:0]", n)
		}
		for side, memory := range map[string][]byte{"before": buf[:40], "after": buf[40+len(sealed):]} {
			if !bytes.Equal(memory, bytes.Repeat([]byte{0xee}, 40)) {
				s.Errorf("for a plaintext of %d bytes, OpenTo with ciphertext[:0] as dst changed memory %s the ciphertext", n, side)
			}
		}
	}
}

func checkAppendContext(s *subject) {
	sealed := s.seal([]byte("message"), nil)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	out, err := s.appending.SealTo(ctx, nil, []byte("message"), nil)
	s.ended("SealTo", out, err)
	out, err = s.appending.OpenTo(ctx, nil, sealed, nil)
	s.ended("OpenTo", out, err)
}

func checkRoom(s *subject) {
	plaintext, ad := random(1000), []byte("ad")
	buf := make([]byte, 0, 16<<10)
	sealed, err := s.appending.SealTo(s.Context(), buf, plaintext, ad)
	s.noError("SealTo", err)
	if !within(sealed, buf[:cap(buf)]) {
		s.Error("SealTo allocated memory, although dst had enough capacity")
	}
	out := make([]byte, 0, 16<<10)
	opened, err := s.appending.OpenTo(s.Context(), out, sealed, ad)
	s.noError("OpenTo", err)
	if !within(opened, out[:cap(out)]) {
		s.Error("OpenTo allocated memory, although dst had enough capacity")
	}
	if sizer, ok := s.appending.(interface{ Overhead() int }); ok {
		if got := len(sealed) - len(plaintext); got > sizer.Overhead() {
			s.Errorf("Overhead returned %d, but SealTo added %d bytes", sizer.Overhead(), got)
		}
	} else {
		s.Errorf("%T has no method Overhead, so callers cannot allocate enough for dst", s.appending)
	}
}

// within reports whether the memory of inner lies in that of outer.
func within(inner, outer []byte) bool {
	if len(inner) == 0 || len(outer) == 0 {
		return false
	}
	from, start := uintptr(unsafe.Pointer(&inner[0])), uintptr(unsafe.Pointer(&outer[0]))
	return from >= start && from+uintptr(len(inner)) <= start+uintptr(len(outer))
}
