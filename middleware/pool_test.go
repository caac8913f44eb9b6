package middleware

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// A buffer of more than 1 MiB is not pooled: a value of 100 MiB must not hold as much memory for each processor.
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

// One large buffer is kept, and only until the next garbage collection.
func TestALargeBufferIsKeptUntilACollection(t *testing.T) { //nolint:paralleltest // it stops the collector
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection at another time would take the buffer
	var l largeBuffer
	if l.take(1) != nil {
		t.Error("a buffer came from nowhere")
	}
	first, second := make([]byte, 100), make([]byte, 200)
	l.keep(first)
	l.keep(second)
	if b := l.take(150); cap(b) != 200 || len(b) != 0 || &b[:1][0] != &second[0] {
		t.Error("the buffer that was kept last is not returned")
	}
	if l.take(1) != nil {
		t.Error("a buffer is taken twice")
	}
	l.keep(first)
	if l.take(150) != nil {
		t.Error("a buffer without room is returned")
	}
	l.keep(make([]byte, 100))
	runtime.GC()
	if l.take(1) != nil {
		t.Error("the collector leaves a large buffer")
	}
}

// A large buffer that held plaintext holds none of it when it is kept.
func TestALargeBufferHoldsNoPlaintext(t *testing.T) { //nolint:paralleltest // another test could take the buffer
	sc := &scratch{packed: []byte("plaintext")}
	sc.packed = append(make([]byte, 0, maxPooled+1), sc.packed...)
	kept := sc.packed
	sc.free()
	for _, b := range kept {
		if b != 0 {
			t.Fatal("plaintext is kept")
		}
	}
}
