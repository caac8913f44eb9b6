package aead

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// namedSlots bounds the calls that run at a time, and those of each name. Without the second bound, one file that hangs would
// use up the slots of all others, because its callers come back again and again.
type namedSlots struct {
	each int           // of one name
	all  chan struct{} // of all names together

	mu    sync.Mutex
	names map[string]*nameSlots // the names that have a running call
}

type nameSlots struct {
	running int
	waiting []chan struct{} // each closed when it is its turn. A channel of slots could not be shared by synctest bubbles.
}

// take waits for a slot of this name, and returns what frees it.
func (s *namedSlots) take(ctx context.Context, name string) (release func(), err error) {
	if turn := s.enter(name); turn != nil {
		select {
		case <-turn:
		case <-ctx.Done():
			if !s.withdraw(name, turn) {
				s.leave(name) // its turn has just come
			}
			return nil, fmt.Errorf("earlier calls have not ended: %w", ended(ctx))
		}
	}
	if err := take(ctx, s.all); err != nil {
		s.leave(name)
		return nil, err
	}
	return func() {
		<-s.all
		s.leave(name)
	}, nil
}

// enter takes a slot of the name. If none is free, it returns what tells when one is.
func (s *namedSlots) enter(name string) (turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[name]
	if n == nil {
		if s.names == nil {
			s.names = make(map[string]*nameSlots)
		}
		n = &nameSlots{}
		s.names[name] = n
	}
	if n.running < s.each {
		n.running++
		return nil
	}
	turn = make(chan struct{})
	n.waiting = append(n.waiting, turn)
	return turn
}

// withdraw ends the waiting for a turn. It returns false if the turn has come.
func (s *namedSlots) withdraw(name string, turn chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[name]
	if n == nil {
		return false
	}
	i := slices.Index(n.waiting, turn)
	if i < 0 {
		return false
	}
	n.waiting = slices.Delete(n.waiting, i, i+1)
	return true
}

// leave gives the slot to the next that waits, or frees it.
func (s *namedSlots) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[name]
	if len(n.waiting) > 0 {
		close(n.waiting[0])
		n.waiting = n.waiting[1:]
		return
	}
	if n.running--; n.running == 0 {
		delete(s.names, name)
	}
}
