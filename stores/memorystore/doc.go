// Package memorystore is a gocache store inside the process, bounded in bytes.
//
// [New] makes one, [Open] makes one from a URL:
//
//	s, err := memorystore.New(memorystore.WithMaxBytes(256 << 20))
//	s, err := memorystore.Open("memory://?max_bytes=256MiB&expiration=10m")
//
// It holds entries in [otter], which keeps what is used often and recently (W-TinyLFU), and adds what a cache
// over Redis has and otter does not: tags, options, compare-and-swap, enumeration, and a budget in bytes.
// Close stops its one goroutine.
//
// # Values
//
// What is stored is copied in and copied out: no caller can change a stored value through a slice it kept or was
// given. []byte comes back as []byte and string as string. So that an application may swap redis:// for memory:// by
// one setting, every other value that go-redis accepts is accepted and comes back as the string that Redis would
// return: numbers in decimal, true and false as 1 and 0, nil as the empty string, [time.Time] as RFC 3339,
// [time.Duration] as nanoseconds, an [encoding.BinaryMarshaler] as its bytes. Any other type is an error that names
// the type: the store would not know its size. (middleware.Store, over this store as over any other, returns values
// in the type that they were given in.)
//
// # The budget
//
// An entry weighs the bytes of its key and value, [EntryOverhead], and for each tag the tag's bytes and
// [TagOverhead]. Once the entries outweigh the budget, those least likely to be used again are evicted, before the
// writing call returns. As a cache may, the store can evict a new entry in favour of one that is asked for more
// often; an entry heavier than a hundredth of the budget competes at once, a lighter one after a while in a
// window. A single entry over the whole budget is [ErrTooLarge]. The Go runtime needs up to as much memory again,
// until it has collected what was evicted (GOGC).
//
// # Expiration
//
// Lifetimes are exact to the nanosecond and measured on the monotonic clock: an expired entry is a miss at once,
// and its memory is free within about two seconds. Expiration 0 is none, -1 ns (what go-redis reports for no
// expiration, and gocache's chain hands on) is none, any other negative one is an error.
//
// # Tags
//
// Invalidate removes what bears one of the tags, whatever is written meanwhile: no concurrent Set leaves an entry
// without its tag, or a tag without its entry. As in Redis, an entry that is overwritten keeps the tags of former
// writes, so that an overwrite that names no tags does not escape an invalidation; of these it keeps at most
// [MaxFormerTags]. Unlike in Redis, tags die with the entry, so that they cannot leak: TagsTTL has no meaning here
// and is ignored, and an entry that was evicted and then refilled without tags (gocache's chain refills its upper
// levels so) is out of their reach.
//
// # Concurrency
//
// All methods are safe for concurrent use. Reads take no lock, writes lock one bucket of the table.
//
// [otter]: https://github.com/maypok86/otter
package memorystore
