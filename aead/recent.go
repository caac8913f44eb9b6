package aead

// recent is a map of bounded size: the oldest entry goes first. Its owner locks it. The zero value is empty.
type recent[K comparable, V any] struct {
	m     map[K]V
	order []K // as they came; the oldest first
}

// set adds an entry, or replaces the value of an entry, which does not make it younger. The map has at most size entries.
func (r *recent[K, V]) set(key K, value V, size int) {
	if r.m == nil {
		r.m = make(map[K]V)
	}
	if _, ok := r.m[key]; !ok {
		if len(r.order) >= size {
			r.dropOldest()
		}
		r.order = append(r.order, key)
	}
	r.m[key] = value
}

func (r *recent[K, V]) dropOldest() {
	delete(r.m, r.order[0])
	r.order = r.order[1:]
}
