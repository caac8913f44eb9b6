package middleware

import (
	"fmt"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// quirks are the ways in which the stores that gocache publishes differ from
// each other. They go by GetType, so that this package need not link the
// stores. Found by running each of them, in the versions that stores/matrix
// pins.
type quirks struct {
	// strings: the store panics on anything but strings.
	strings bool
	// bytes: the store takes []byte only, and panics or fails on the rest.
	bytes bool
	// needsExpiry: the store sends an expiry with every entry, and Redis refuses
	// one of 0.
	needsExpiry bool
	// zeroIsShort: a TTL of 0 means under half a second (Redis rounds the
	// seconds that it reports), not "no expiry", which is negative.
	zeroIsShort bool
	// wholeSeconds: the store cuts a TTL down to whole seconds, and under one
	// second to "never".
	wholeSeconds bool
	// unixSeconds: over 30 days, an expiry is a Unix time (memcached's
	// protocol.txt, "Expiration times").
	unixSeconds bool
	// missText is the text of the error that the store returns for an absent
	// entry instead of store.NotFound.
	missText string
	// deleteFails: deleting an absent entry is an error, and the only one.
	deleteFails bool
	// talks: texts of errors hold key names or values.
	talks bool
}

func quirksOf(storeType string) quirks {
	switch storeType {
	case "redis", "rediscluster":
		return quirks{zeroIsShort: true}
	case "rueidis":
		return quirks{strings: true, needsExpiry: true, zeroIsShort: true, wholeSeconds: true}
	case "ristretto":
		return quirks{bytes: true, talks: true}
	case "memcache":
		return quirks{bytes: true, wholeSeconds: true, unixSeconds: true, talks: true}
	case "freecache":
		return quirks{bytes: true, wholeSeconds: true, deleteFails: true, talks: true}
	case "bigcache":
		return quirks{missText: "Entry not found"}
	default:
		return quirks{}
	}
}

// normalExpiration returns a negative expiration as an error, except the one
// that go-redis and gocache's Redis store report for an entry without expiry,
// -1 ns, which gocache's Chain hands on as an expiration: it means none.
func normalExpiration(d time.Duration) (time.Duration, error) {
	switch {
	case d == noExpiry:
		return 0, nil
	case d < 0:
		return 0, fmt.Errorf("middleware: expiration %v is in the past: delete the entry instead, or give 0 for no expiry", d)
	default:
		return d, nil
	}
}

// noExpiry is what go-redis reports as the TTL of an entry without expiry.
const noExpiry time.Duration = -1

// goneMeanwhile is what go-redis reports as the TTL of an absent entry. gocache
// asks for it after it has read the value: an entry that expires between the
// two must not be handed on as one that never does.
const goneMeanwhile time.Duration = -2

// memcachedRelative is the longest expiry that memcached takes for relative.
const memcachedRelative = 30 * 24 * time.Hour

// expiration adapts an expiration to what the backing store makes of it.
func (q quirks) expiration(d time.Duration, now func() time.Time) time.Duration {
	if d == noExpiry {
		return 0
	}
	if q.wholeSeconds && d > 0 {
		d = (d + time.Second - 1).Truncate(time.Second)
	}
	if q.unixSeconds && d > memcachedRelative {
		return time.Duration(now().Add(d).Unix()) * time.Second
	}
	return d
}

// ttl returns what the backing store reports in the one form that gocache's
// Chain hands on safely: 0 for no expiry.
func (q quirks) ttl(d time.Duration) time.Duration {
	switch {
	case q.zeroIsShort && (d == 0 || d == goneMeanwhile):
		return time.Millisecond
	case d < 0:
		return 0
	default:
		return d
	}
}

// backingError returns an error of the backing store in the form that callers
// may see.
func (s *Store) backingError(err error) error {
	switch {
	case err == nil:
		return nil
	case isMiss(err):
		return miss(err)
	case s.quirks.missText != "" && err.Error() == s.quirks.missText:
		return store.NotFoundWithCause(err)
	case s.quirks.needsExpiry && strings.Contains(err.Error(), "invalid expire"):
		return fmt.Errorf("middleware: the %s store takes no entry without an expiration: give Set one, or New WithDefaults(store.WithExpiration(...)): %w", s.backing.GetType(), err)
	case s.quirks.talks:
		return &redacted{store: s.backing.GetType(), cause: err}
	default:
		return withoutArguments(err)
	}
}

// withoutArguments cuts an error's text where it repeats a command's arguments
// or a reply: "ERR unknown command 'get', with args beginning with: 'the key'"
// is Redis's, for a command that its operator has renamed, the others are
// go-redis's for a reply that does not parse, and the last is newer servers'
// "NOPERM ... access the 'the key' key".
func withoutArguments(err error) error {
	text := err.Error()
	for _, mark := range [...]string{", with args beginning with", " reply=", ": parsing ", "permissions to access the '"} {
		if i := strings.Index(text, mark); i >= 0 {
			return &shortened{text: text[:i] + " (the rest is withheld: it may name keys and values)", cause: err}
		}
	}
	return err
}

// deleteError is backingError, with an absent entry being no error.
func (s *Store) deleteError(err error) error {
	if err != nil && s.quirks.deleteFails {
		return nil
	}
	if err = s.backingError(err); isMiss(err) {
		return nil
	}
	return err
}
