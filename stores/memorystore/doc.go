// Package memorystore is a gocache store inside the process, bounded in bytes.
//
// [New] makes one, [Open] makes one from a URL:
//
//	s, err := memorystore.New(memorystore.WithMaxBytes(256 << 20))
//	s, err := memorystore.Open("memory://?max_bytes=256MiB&expiration=10m")
//
// It holds entries in [otter], which keeps the entries that are used often and recently (W-TinyLFU). It adds the
// features of a cache over Redis that otter lacks: tags, options, compare-and-swap, enumeration, and a budget in
// bytes. Close stops its one goroutine.
//
// # Values
//
// Values are copied in and copied out: no caller can change a stored value through a slice it kept or was
// given. A []byte comes back as []byte and a string as string. Every other value that go-redis accepts comes back as
// the string that Redis would return, so that an application can switch from redis:// to memory:// by one setting:
// numbers in decimal, true and false as 1 and 0, nil as the empty string, [time.Time] as RFC 3339, [time.Duration] as
// nanoseconds, an [encoding.BinaryMarshaler] as its bytes. Any other type is an error that names the type, because the
// store would not know its size. middleware.Store returns values in the type that they were set with, over this store
// as over any other.
//
// # The budget
//
// An entry counts the bytes of its key and value and 256 bytes, and for each tag the tag's bytes and 128 bytes. If the
// entries exceed the budget, the store evicts those least likely to be used again, before the writing call returns.
// The store can evict a new entry in favour of one that is read more often. An entry larger than a hundredth of the
// budget is compared with others at once, and a smaller one is safe for a short time. An entry larger than the whole
// budget is [ErrTooLarge]. The Go runtime needs up to as much memory again until it has collected evicted entries (GOGC).
//
// # Expiration
//
// Lifetimes are exact to the nanosecond and measured on the monotonic clock: an expired entry is a miss at once,
// and its memory is free within about two seconds. An expiration of 0 or -1 ns means none: go-redis reports -1 ns for
// no expiration, and gocache's Chain passes it on. Any other negative expiration is an error.
//
// # Tags
//
// Invalidate removes the entries that have one of the tags. No concurrent Set leaves an entry without its tag, or a tag
// without its entry. As in Redis, an entry that is overwritten keeps the tags of former writes, so that an overwrite
// without tags does not escape an invalidation. The store keeps the latest 256 former tags of an entry. Unlike in
// Redis, tags end with the entry, so that they cannot leak, and TagsTTL is ignored. If an entry was evicted and then
// written again without tags, as gocache's Chain does in its upper levels, an invalidation does not find it.
//
// # Concurrency
//
// All methods are safe for concurrent use. Reads take no lock, writes lock one bucket of the table.
//
// [otter]: https://github.com/maypok86/otter
package memorystore
