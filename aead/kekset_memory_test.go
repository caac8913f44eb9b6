package aead

import "testing"

// A member that has reloaded may open other wrapped keys than before, so nothing is likely until one was opened.
func TestKEKSetMemoryForgets(t *testing.T) {
	t.Parallel()
	var m kekSetMemory
	wrapped := []byte("wrapped key")
	name := kekSetName(wrapped)
	m.remember(name, wrapped, 1)
	if first, likely, _ := m.recall(name, wrapped, 0); first != 1 || likely != 1 {
		t.Errorf("remembered: %d, %d", first, likely)
	}
	m.forget()
	if first, likely, _ := m.recall(name, wrapped, 0); first != -1 || likely != -1 {
		t.Errorf("after forget: %d, %d", first, likely)
	}
	m.remember(name, wrapped, 2)
	if first, likely, _ := m.recall(name, wrapped, 0); first != 2 || likely != 2 {
		t.Errorf("remembered again: %d, %d", first, likely)
	}
}
