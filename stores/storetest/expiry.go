package storetest

import (
	"cmp"
	"math"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func expiryCases() []testCase {
	perEntry := func(c Capabilities) string { return needs(c.TTL.PerEntry, "TTL.PerEntry") }
	return []testCase{
		{
			name: "no expiration",
			rule: "an entry without expiration stays, and GetWithTTL returns TTL.None for it. Set with the expiration 0 fails if and only if TTL.NeverNone is declared",
			run: func(t *testing.T, s *subject) {
				s.set(t, "k", "v")
				s.reportsNone(t, "k")
				err := s.Store.Set(t.Context(), "zero", s.value("v"), store.WithExpiration(0))
				declared(t, "TTL.NeverNone", "Set with the expiration 0 fails", err != nil, s.Can.TTL.NeverNone)
				if err == nil {
					s.reportsNone(t, "zero")
				}
			},
		},
		{
			name: "expiration",
			rule: "an entry exists until its expiration, and no longer. TTL.Max is the longest expiration that the store can keep",
			why:  perEntry,
			run:  expires,
		},
		{
			name: "reported TTL",
			rule: "GetWithTTL returns the time that an entry has left, to the declared resolution",
			why: func(c Capabilities) string {
				return cmp.Or(perEntry(c), needs(c.TTL.Reported, "TTL.Reported"))
			},
			run: reportsTTL,
		},
		{
			name: "unreported TTL",
			rule: "a store that does not report TTLs returns 0 or less, so that no caller takes it for a TTL",
			why: func(c Capabilities) string {
				return cmp.Or(perEntry(c), unless(!c.TTL.Reported, "Subject.Can declares TTL.Reported"))
			},
			run: func(t *testing.T, s *subject) {
				s.set(t, "k", "v", store.WithExpiration(time.Hour))
				_, ttl, err := s.Store.GetWithTTL(t.Context(), "k")
				if err != nil || ttl > 0 {
					t.Errorf("GetWithTTL %s, want a TTL of 0 or less, because Subject.Can does not declare TTL.Reported", outcome("the TTL "+ttl.String(), err))
				}
			},
		},
		{
			name: "an overwrite sets its own TTL",
			rule: "Set replaces the TTL of the entry that it overwrites, even if the new entry has no TTL",
			why:  perEntry,
			run:  overwriteTTL,
		},
		{
			name: "negative expirations",
			rule: "-1 ns means no expiration, as go-redis reports it; every other negative expiration is an error",
			why:  func(c Capabilities) string { return needs(c.TTL.NegativeIsError, "TTL.NegativeIsError") },
			run: func(t *testing.T, s *subject) {
				for _, d := range []time.Duration{-2, -time.Second, math.MinInt64} {
					if err := s.Store.Set(t.Context(), "k", s.value("v"), store.WithExpiration(d)); err == nil {
						t.Errorf("Set accepted the negative expiration %v, want an error", d)
					}
				}
				s.lacks(t, "Set with negative expirations, which should fail", "k")
				if s.Can.TTL.NeverNone {
					return
				}
				s.set(t, "k", "v", store.WithExpiration(-1))
				s.reportsNone(t, "k")
			},
		},
	}
}

// reportsNone checks the TTL that GetWithTTL returns for an entry that was set without expiration.
func (s *subject) reportsNone(t *testing.T, key string) {
	t.Helper()
	_, ttl, err := s.Store.GetWithTTL(t.Context(), key)
	noError(t, "GetWithTTL", err)
	want := s.Can.TTL.None
	switch {
	case want < 0 && ttl < 0, want == 0 && ttl == 0:
	case want > 0 && ttl <= want && ttl > want-time.Minute:
	default:
		t.Errorf("GetWithTTL returned the TTL %v for an entry without expiration, want %v, as Subject.Can.TTL.None declares", ttl, want)
	}
}

// lifetime is long enough to see an entry alive on a busy machine.
func (s *subject) lifetime() time.Duration {
	return max(2*s.Can.TTL.Resolution, 300*time.Millisecond)
}

func expires(t *testing.T, s *subject) {
	s.set(t, "stays", "v")
	s.set(t, "longer", "v", store.WithExpiration(time.Hour))
	const month = 31 * 24 * time.Hour
	s.set(t, "longest", "v", store.WithExpiration(month))
	s.expiresInTime(t, "goes", s.lifetime())
	s.holds(t, "Set without expiration", "stays", "v")
	s.holds(t, "Set with an expiration of one hour, and the expiration of another entry", "longer", "v")
	declared(t, "a TTL.Max that allows 31 days (0: no limit)", "the store keeps an entry with an expiration of 31 days", s.there(t, "longest"), s.Can.TTL.Max == 0 || s.Can.TTL.Max >= month)
}

// expiresInTime checks that an entry goes at its end, neither sooner nor later. The clock of a server of whole seconds ticks
// in another thread than the one that answers, and stops when that thread stops. So one answer from such a server proves
// nothing.
func (s *subject) expiresInTime(t *testing.T, key string, d time.Duration) {
	t.Helper()
	attempts, sightings := 1, 1
	if s.Can.TTL.Resolution >= time.Second {
		attempts, sightings = 3, 200
	}
	for {
		early := s.watchExpiry(t, key, d, sightings)
		if early <= 0 {
			return
		}
		if attempts--; attempts == 0 {
			t.Errorf("the entry with the expiration %v disappeared %v too early", d, early)
			return
		}
	}
}

// watchExpiry sets an entry and waits until it is gone. It returns how much too early that was. The test fails if the entry
// is seen this often after its end.
func (s *subject) watchExpiry(t *testing.T, key string, d time.Duration, sightings int) (early time.Duration) {
	t.Helper()
	unit := s.Can.TTL.Resolution
	start := time.Now()
	s.set(t, key, "v", store.WithExpiration(d))
	set := time.Now()
	for ; ; time.Sleep(5 * time.Millisecond) {
		asked := time.Now()
		if !s.there(t, key) {
			return d - unit - time.Since(start)
		}
		if late := asked.Sub(set) - d - unit; late > 0 {
			if sightings--; sightings == 0 {
				t.Fatalf("the entry with the expiration %v is still there %v after it should have expired", d, late)
			}
		}
	}
}

func reportsTTL(t *testing.T, s *subject) {
	for _, d := range []time.Duration{s.lifetime(), 10 * time.Second, time.Hour, 31 * 24 * time.Hour} {
		for attempts := 50; !s.reportsTTLOf(t, d); { // the machine has stopped for so long that the entry may be gone
			if attempts--; attempts == 0 {
				t.Fatalf("Set and GetWithTTL together always took longer than the expiration %v (is the machine busy?)", d)
			}
		}
	}
}

// reportsTTLOf checks the TTL that GetWithTTL returns for an entry. It returns false if the entry may have expired before.
func (s *subject) reportsTTLOf(t *testing.T, d time.Duration) bool {
	t.Helper()
	unit := s.Can.TTL.Resolution
	start := time.Now()
	s.set(t, "k", "v", store.WithExpiration(d))
	value, ttl, err := s.Store.GetWithTTL(t.Context(), "k")
	elapsed := time.Since(start)
	if elapsed >= d-unit {
		return false
	}
	if err != nil || textOf(value) != "v" {
		t.Fatalf("GetWithTTL %s, want \"v\", which was set", outcome(typed(value), err))
	}
	if ttl > d+unit || ttl < d-elapsed-unit {
		t.Errorf("GetWithTTL returned the TTL %v for an entry with the expiration %v, want between %v and %v", ttl, d, d-elapsed-unit, d+unit)
	}
	if ttl%unit != 0 && unit >= time.Second {
		t.Errorf("GetWithTTL returned the TTL %v, which is not a multiple of Subject.Can.TTL.Resolution, %v", ttl, unit)
	}
	return true
}

func overwriteTTL(t *testing.T, s *subject) {
	d := s.lifetime()
	s.set(t, "made-longer", "1", store.WithExpiration(d))
	s.set(t, "made-eternal", "1", store.WithExpiration(d))
	s.set(t, "made-shorter", "1", store.WithExpiration(time.Hour))
	s.set(t, "made-longer", "2", store.WithExpiration(time.Hour))
	s.set(t, "made-eternal", "2")
	s.set(t, "made-shorter", "2", store.WithExpiration(d))
	eventually(t, d+s.Can.TTL.Resolution+patience, "the entry with the shorter expiration is gone", func() bool {
		there, err := s.present(t.Context(), "made-shorter")
		return err == nil && !there
	})
	s.holds(t, "a second Set with an expiration of one hour, and the end of the first expiration", "made-longer", "2")
	s.holds(t, "a second Set without expiration, and the end of the first expiration", "made-eternal", "2")
}
