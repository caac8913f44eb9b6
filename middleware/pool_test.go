package middleware

import "testing"

// A buffer of more than 1 MiB is not kept: a value of 100 MiB must not hold as much memory for each processor.
func TestPooledBuffersAreBounded(t *testing.T) { //nolint:paralleltest // another test could take the buffer
	for n, kept := range map[int]bool{maxPooled: true, maxPooled + 1: false} {
		sc := &scratch{out: make([]byte, n), word: [8]byte{1}}
		sc.free()
		if (sc.out != nil) != kept {
			t.Errorf("a buffer of %d bytes is kept: %v", n, !kept)
		}
		if sc.word != [8]byte{} {
			t.Error("a number in plaintext is kept")
		}
	}
	if maxPooled != 1<<20 {
		t.Errorf("the bound is %d bytes", maxPooled)
	}
}
