// Package keylock lets the goroutines of a process change the same entry one after the other. Begin with the
// type [Set] and its method Lock.
//
// Callers change an entry with a compare-and-swap. If several goroutines do this at once, most of them fail and try again.
// The lock avoids this work. The compare-and-swap remains correct without it.
//
// If a goroutine holds a lock for too long, the waiting goroutines continue without the lock. So a goroutine can lock
// several entries in any order without a deadlock.
package keylock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long one goroutine may hold a lock before the others continue without it.
const patience = 100 * time.Millisecond

// A Set holds a lock for each key in use. The zero value is ready.
type Set struct {
	mu    sync.Mutex
	locks map[string]*lock
}

type lock struct {
	free  chan struct{} // holds a token while the lock is free
	turns atomic.Uint64 // how often the lock was taken
	users int           // goroutines that hold the lock, wait for it, or continue without it
}

// Lock waits for the lock of key, or until one holder has kept it for 100 ms. The caller calls unlock once. The error
// is the error of ctx.
func (s *Set) Lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := s.join(key)
	take := func() func() {
		l.turns.Add(1)
		return func() {
			l.free <- struct{}{}
			s.leave(key, l)
		}
	}
	select {
	case <-l.free:
		return take(), nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for seen := l.turns.Load(); ; {
		select {
		case <-l.free:
			return take(), nil
		case <-ctx.Done():
			s.leave(key, l)
			return nil, ctx.Err()
		case <-timer.C:
			turns := l.turns.Load()
			if turns == seen {
				return func() { s.leave(key, l) }, nil
			}
			seen = turns
			timer.Reset(patience)
		}
	}
}

func (s *Set) join(key string) *lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[key]
	if l == nil {
		l = &lock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		if s.locks == nil {
			s.locks = make(map[string]*lock)
		}
		s.locks[key] = l
	}
	l.users++
	return l
}

func (s *Set) leave(key string, l *lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(s.locks, key)
	}
}
