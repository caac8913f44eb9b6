// Package memorystore is a gocache store in the memory of the process. It has a limit in bytes.
//
// [New] returns a store. [Open] returns a store for a URL:
//
//	s, err := memorystore.New(memorystore.WithMaxBytes(256 << 20))
//	s, err := memorystore.Open("memory://?max_bytes=256MiB&expiration=10m")
//
// The store keeps its entries in [otter], a cache with the eviction policy W-TinyLFU. In addition to otter, it has tags, gocache's
// options, compare-and-swap, listing of entries, and a limit in bytes. Close stops the single goroutine of the store.
//
// # Values
//
// The store copies values on write and on read. So a caller cannot change a stored value through its own slice. A []byte comes
// back as []byte and a string as string. Other values that go-redis accepts come back as the string that Redis would return:
//
//   - Numbers are decimal. true is "1" and false is "0". nil is the empty string.
//   - A [time.Time] is RFC 3339. A [time.Duration] is its number of nanoseconds.
//   - An [encoding.BinaryMarshaler] is its bytes.
//
// So an application can change redis:// to memory:// in its configuration. Set returns an error for any other type, because the
// store cannot know the size of the value. A middleware.Store restores the Go type of a value, over this store too.
//
// # The budget
//
// The budget is the limit of [WithMaxBytes]. The size of an entry is the length of key and value plus 256 bytes. Each tag adds its
// length plus 128 bytes. Set returns [ErrTooLarge] for an entry that is larger than the whole budget.
//
// If a write exceeds the budget, the store evicts entries before the call returns. It evicts the entries with the least expected
// use. This can be the new entry, if other entries are read more often. The store can evict the new entry at once if it is
// larger than a hundredth of the budget. It keeps a smaller new entry for a short time first.
//
// The process can use up to twice the budget, until the garbage collector frees evicted entries (GOGC).
//
// # Expiration
//
// The store measures expirations in nanoseconds on the monotonic clock. A read never returns an expired entry. The store frees the
// memory of the entry within about two seconds.
//
// An expiration of 0 or -1 ns means no expiration. go-redis returns -1 ns for an entry without expiration, and gocache's Chain
// passes this value to Set. Any other negative expiration is an error.
//
// # Tags
//
// Invalidate removes the entries that have one of the tags. Entries and tags stay consistent during concurrent calls.
//
// As in Redis, an overwritten entry keeps its former tags. So Invalidate also finds an entry that was overwritten without tags. The
// store keeps the latest 256 former tags of an entry. Unlike in Redis, the store removes the tags of an entry together with the
// entry. It ignores TagsTTL.
//
// gocache's Chain writes values into its upper levels without tags. If such an entry was evicted before, it has no former tags, and
// Invalidate does not find it.
//
// # Concurrency
//
// All methods are safe for concurrent use. Reads take no lock. A write locks one bucket of otter's hash table.
//
// [otter]: https://github.com/maypok86/otter
package memorystore
