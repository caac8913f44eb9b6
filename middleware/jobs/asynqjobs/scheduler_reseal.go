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

// resealTime bounds what a pass spends on sealing again: ticks must not wait for it.
const resealTime = 200 * time.Millisecond

// reseal seals schedules again that are not under the primary key or are old, so that
// none is lost with a key that is retired. They keep their ids, their anchors and their
// last ticks. Each is looked at once for each time that all are read.
func (r *run) reseal(ctx context.Context, now time.Time, ticks map[string]time.Time) {
	s, began := r.s, time.Now()
	for _, en := range r.current {
		if r.checked[en.field] {
			continue
		}
		if time.Since(began) > resealTime {
			return // the next pass goes on
		}
		if err := s.resealOne(ctx, now, en, ticks[en.field]); err != nil {
			s.failed(ctx, err)
			return // as above
		}
		r.checked[en.field] = true
	}
}

func (s *Scheduler) resealOne(ctx context.Context, now time.Time, en entry, last time.Time) error {
	age := now.Sub(en.def.sealed())
	if age < resealSpacing {
		return nil
	}
	fresh, err := s.store.sealAs(ctx, en.field, en.def, now)
	if err != nil {
		return err
	}
	if age < resealAfter && underSameKey(en.raw, fresh.raw) {
		return nil
	}
	_, err = s.swap(ctx, []entry{en}, fresh, last, now)
	return err
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
