package asynqjobs

import (
	"context"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// resealAfter is the age at which a schedule is sealed again under any key. Ciphertexts of a
	// key service do not show whether their key is the primary one.
	resealAfter = 24 * time.Hour
	// resealSpacing is the least age at which a running scheduler seals a schedule again because of
	// its key. During the rollout of a keyset, processes have different primary keys, and must not
	// keep resealing each other's schedules.
	resealSpacing = time.Hour
	// resealTime bounds the time of a pass: ticks must not wait for it.
	resealTime = 200 * time.Millisecond
)

// reseal seals schedules again that are old or not under the primary key, so that none becomes
// unreadable when a key is retired. It also seals cancellations again. They keep their ids, their anchors and their last ticks. It
// looks at each schedule once after each reading.
func (r *run) reseal(ctx context.Context, now time.Time, ticks map[string]time.Time) {
	s, began := r.s, time.Now()
	for _, en := range r.entries {
		if r.checked[en.field] {
			continue
		}
		if time.Since(began) > resealTime {
			return // the next pass continues
		}
		if err := s.resealOne(ctx, now, en, ticks[en.field]); err != nil {
			s.failed(ctx, err)
			return // the next pass continues
		}
		r.checked[en.field] = true
	}
}

func (s *Scheduler) resealOne(ctx context.Context, now time.Time, en entry, last time.Time) error {
	age := now.Sub(en.def.sealed())
	if age >= 0 && age < resealSpacing { // it is negative if the server's clock was set back
		return nil
	}
	fresh, err := s.store.sealAs(ctx, en.field, en.def, now)
	if err != nil {
		return err
	}
	if age < resealAfter && underSameKey(en.raw, fresh.raw) {
		return nil
	}
	_, err = s.swap(ctx, change{old: []entry{en}, new: fresh, last: last, now: now})
	return err
}

// underSameKey reports whether two sealed values name the same key. Values that name no
// key count as equal.
func underSameKey(a, b string) bool {
	x, y := wire.StoredKey([]byte(a)), wire.StoredKey([]byte(b))
	return x.HasID == y.HasID && x.ID == y.ID && x.Version == y.Version && x.Passphrase() == y.Passphrase()
}
