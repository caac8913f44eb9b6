package middleware

import (
	"math"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// traits are the differences between the stores of gocache that docs/stores.md lists. They are
// looked up by GetType, so that this package does not link the stores. They were
// found by running each store in the version that stores/matrix pins.
type traits struct {
	// strings: the store panics on anything but strings.
	strings bool
	// bytes: the store takes []byte only, and panics or fails on the rest.
	bytes bool
	// needsExpiry: the store sends an expiry with every entry, and Redis refuses
	// an expiry of 0.
	needsExpiry bool
	// zeroIsShort: a TTL of 0 means under half a second, because Redis rounds the
	// seconds. "No expiry" is a negative TTL.
	zeroIsShort bool
	// wholeSeconds: the store cuts a TTL down to whole seconds, and a TTL under
	// one second to no expiry.
	wholeSeconds bool
	// unixSeconds: an expiry of more than 30 days is a Unix time (memcached's
	// protocol.txt, "Expiration times").
	unixSeconds bool
	// lastSecond is the last Unix time at which an entry may end, 0 for any. The store
	// keeps Unix seconds in 32 bits.
	lastSecond int64
	// tagLists starts the names under which the store keeps the keys of each tag. It is
	// empty for a store whose tags are not gocache's.
	tagLists string
	// joinsTags: the keys of a tag are one value, joined by commas.
	joinsTags bool
	// setsOfTags: the keys of a tag are a set of Redis, which Get cannot read.
	setsOfTags bool
	// maxNameBytes is the longest name that the store takes, 0 for any.
	maxNameBytes int
	// graphicNames: names contain no spaces and no control bytes.
	graphicNames bool
	// missText is the text of the error for an absent entry where it is not
	// store.NotFound.
	missText string
	// deleteFails: deleting an absent entry is an error, and Delete has no other
	// errors.
	deleteFails bool
	// quotes: texts of errors contain key names or values.
	quotes bool
}

func traitsFor(backing store.StoreInterface, can capabilities) traits {
	if can.bytes != nil {
		return traits{} // a store of this module, under any name that it reports
	}
	return traitsOf(backing.GetType())
}

func traitsOf(storeType string) traits {
	switch storeType {
	case "redis", "rediscluster":
		return traits{tagLists: tagLists, setsOfTags: true, zeroIsShort: true}
	case "rueidis":
		return traits{tagLists: tagLists, setsOfTags: true, strings: true, needsExpiry: true, zeroIsShort: true, wholeSeconds: true}
	case "ristretto":
		return traits{tagLists: tagLists, joinsTags: true, bytes: true, quotes: true}
	case "memcache":
		return traits{
			tagLists: tagLists, joinsTags: true, maxNameBytes: 250, graphicNames: true,
			bytes: true, wholeSeconds: true, unixSeconds: true, lastSecond: math.MaxInt32, quotes: true,
		}
	case "freecache":
		return traits{
			tagLists: freecacheTagLists, joinsTags: true, maxNameBytes: math.MaxUint16,
			bytes: true, wholeSeconds: true, lastSecond: math.MaxUint32, deleteFails: true, quotes: true,
		}
	case "bigcache":
		return traits{tagLists: tagLists, joinsTags: true, maxNameBytes: math.MaxUint16, missText: "Entry not found"}
	case "go-cache":
		return traits{tagLists: tagLists}
	default:
		return traits{}
	}
}

const (
	// tagLists starts the names of tags' lists in all stores of gocache but freecache.
	tagLists = "gocache_tag_"
	// freecacheTagLists starts them in freecache.
	freecacheTagLists = "freecache_tag_"
	// noExpiry is the TTL that go-redis reports for an entry without expiry.
	// gocache's Chain passes it on as an expiration.
	noExpiry time.Duration = -1
	// gone is the TTL that go-redis reports for an absent entry. gocache asks for
	// the TTL after it has read the value: an entry that expires between the two
	// must not count as one without expiry.
	gone time.Duration = -2
	// memcachedRelative is the longest expiry that memcached takes for relative.
	memcachedRelative = 30 * 24 * time.Hour
)

// normalExpiration returns 0 for noExpiry, and an error for another negative
// expiration.
func normalExpiration(d time.Duration) (time.Duration, error) {
	switch {
	case d == noExpiry:
		return 0, nil
	case d < 0:
		return 0, errExpiration
	default:
		return d, nil
	}
}

// expiration adapts an expiration to the backing store. One that the store cannot
// hold becomes the longest that it can: it would wrap to a time in the past.
func (t traits) expiration(d time.Duration, now func() time.Time) time.Duration {
	if d == noExpiry {
		return 0
	}
	if t.wholeSeconds && d > 0 {
		d = (min(d, math.MaxInt64-time.Second) + time.Second - 1).Truncate(time.Second)
	}
	if t.lastSecond == 0 || d <= 0 {
		return d
	}
	at := now()
	left := time.Unix(t.lastSecond, 0).Sub(at).Truncate(time.Second)
	if t.unixSeconds {
		left = max(left, memcachedRelative)
	}
	if left > 0 { // else the clock of the store has wrapped, too
		d = min(d, left)
	}
	if t.unixSeconds && d > memcachedRelative {
		return time.Duration(at.Add(d).Unix()) * time.Second
	}
	return d
}

// ttl adapts a TTL that the backing store reports: 0 means no expiry.
func (t traits) ttl(d time.Duration) time.Duration {
	switch {
	case t.zeroIsShort && (d == 0 || d == gone):
		return time.Millisecond
	case d < 0:
		return 0
	default:
		return d
	}
}

// form returns b in the Go type that the backing store takes. Where that is a
// string, b must not be written to any more.
func (t traits) form(b []byte) any {
	if t.strings {
		return stringOf(b)
	}
	return b
}
