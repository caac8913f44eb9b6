package asynqjobs

import (
	"context"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// resealAfter is the age at which a schedule is sealed again whatever its key
	// is: of a key service's keys one does not see which is the primary.
	resealAfter = 24 * time.Hour
	// resealSpacing is the least age at which a running scheduler seals one again
	// because of its key. While keysets are rolled out processes differ in the
	// primary, and must not undo each other's work all the time.
	resealSpacing = time.Hour
)

// reseal seals the schedules of v again that are not under the primary key or are
// old, so that none is lost with a key that is retired. They keep their ids, their
// anchors and their last ticks.
func (s *Scheduler) reseal(ctx context.Context, now time.Time, ticks map[string]time.Time, v *view) {
	for i := range v.entries {
		en := &v.entries[i]
		age := now.Sub(en.def.sealed())
		if age < resealSpacing || en.err != nil {
			continue
		}
		raw, err := s.store.sealAs(ctx, en.field, en.def, now)
		if err != nil {
			s.failed(ctx, err)
			return // the next time
		}
		if age < resealAfter && underSameKey(en.raw, raw) {
			continue
		}
		ok, err := s.store.swap(ctx, []entry{*en}, en.field, raw, ticks[en.field])
		if err != nil {
			s.failed(ctx, err)
			return
		}
		if ok {
			fresh := s.store.open(ctx, en.field, raw)
			if fresh.def == nil {
				s.failed(ctx, fresh.err)
				continue
			}
			*en, v.known[en.field] = fresh, fresh
		}
	}
}

// underSameKey tells whether two sealed values name the same key, as far as one can
// see: Tink's ciphertexts begin with 01 and the id of their key, those of an envelope
// have the wrapped data key first, after its length, which may begin so. Of others it
// is true.
func underSameKey(a, b string) bool { return keyPrefix(a) == keyPrefix(b) }

func keyPrefix(raw string) string {
	const prefix, length = 5, 4
	_, n, err := wire.Parse([]byte(raw))
	if err != nil {
		return ""
	}
	body := raw[n:]
	if len(body) > length && body[0] == 0 {
		body = body[length:]
	}
	if len(body) < prefix || body[0] != 1 {
		return ""
	}
	return body[:prefix]
}
