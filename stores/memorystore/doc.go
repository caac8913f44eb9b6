// Package memorystore is a gocache store in the memory of the process, with a limit in bytes. gocache is
// github.com/eko/gocache. Call [New], or [Open] with a URL:
//
//	s, err := memorystore.New(memorystore.WithMaxBytes(256 << 20))
//	s, err := memorystore.Open("memory://?max_bytes=256MiB&expiration=10m")
//
// The store keeps its entries in [otter], a cache library. The store adds to otter: tags, the options of gocache,
// compare-and-swap, listing of entries, and the limit. Close ends all goroutines of the store. All methods are
// safe for concurrent use.
//
// # Values
//
// The store copies values on write and on read. So a caller cannot change a stored value through its own slice. A []byte
// comes back as []byte and a string as string. Other values come back as the string that Redis would return: see
// [Store.Set]. So an application can replace Redis by memory:// in its configuration.
//
// A middleware.Store over this store encrypts values, and returns each value with its original Go type. Some types need a
// Codec: see package middleware.
//
// # The limit
//
// If all entries together exceed the limit after a write, the store evicts entries before the call returns. It evicts
// entries that are seldom read. The new entry can be one of these, especially if it is larger than a hundredth of the
// limit. The comment of [WithMaxBytes] says how the size of an entry is counted. The process can use up to twice the
// limit, until the garbage collector frees evicted entries.
//
// # Expiration
//
// A read never returns an expired entry. The store frees the memory of an expired entry within about two seconds. An
// expiration of 0 or -1 ns means no expiration. Any other negative expiration is an error. (go-redis returns -1 ns for
// an entry without expiration, and gocache's Chain passes it to Set.)
//
// # Tags
//
// gocache can give an entry tags. Invalidate deletes the entries that have one of the given tags. An entry that is written
// again keeps its former tags, as in gocache's Redis store: see [Store.Set].
//
// [otter]: https://github.com/maypok86/otter
package memorystore
