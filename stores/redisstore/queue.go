package redisstore

import "time"

// limit is the number of calls and batches that may run at the same time. Over a network, more connections make calls
// faster, because they overlap the round trips. If the server is on the same host, many callers are faster in pipelines over
// few connections. Few callers are faster over one connection each.
func (q *queue) limit(pool int) int {
	limit := farLimit
	if d, ok := q.fastest.get(); ok && d < nearOperation {
		limit = nearLimit
		if q.peakCallers < fewCallers+0.5 {
			limit = fewCallers
		}
	}
	return max(1, min(pool, limit))
}

// enter counts a caller. The number of callers falls at the end of each batch, so peakCallers follows it up at once and
// down slowly. enter returns the time if the call is to be timed, and otherwise the zero time. The queue's mutex must be held.
func (q *queue) enter() (start time.Time) {
	q.callers++
	q.peakCallers = max(float64(q.callers), q.peakCallers+(float64(q.callers)-q.peakCallers)/peakDecay)
	if q.calls++; q.calls%timedCalls == 1 {
		start = time.Now()
		q.fastest.roll(start)
	}
	return start
}

// leave ends the count of n callers.
func (q *queue) leave(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.callers -= n
}

func (q *queue) push(w *waitingCall) {
	w.queued = true
	w.prev = q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
}

func (q *queue) remove(w *waitingCall) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
}

// withdraw takes a call out of the queue, and reports whether it was still there.
func (q *queue) withdraw(w *waitingCall) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.queued {
		return false
	}
	q.remove(w)
	q.callers--
	return true
}

// take removes the calls of the next batch, nil if none waits.
func (q *queue) take() []*waitingCall {
	var batch []*waitingCall
	for size := 0; q.first != nil && len(batch) < combinedCommands; {
		w := q.first
		if size += w.size; size > combinedBytes && len(batch) > 0 {
			break
		}
		q.remove(w)
		batch = append(batch, w)
	}
	return batch
}

// fastest records the shortest operation of the last second: of this second and the one before.
type fastest struct {
	second       time.Time // when this second began
	this, before time.Duration
}

func (f *fastest) roll(now time.Time) {
	switch passed := now.Sub(f.second); {
	case passed < time.Second:
	case passed < 2*time.Second:
		f.second, f.before, f.this = f.second.Add(time.Second), f.this, 0
	default:
		f.second, f.before, f.this = now, 0, 0
	}
}

func (f *fastest) add(now time.Time, d time.Duration) {
	f.roll(now)
	if f.this == 0 || d < f.this {
		f.this = max(d, 1)
	}
}

// get returns false if nothing has been measured.
func (f *fastest) get() (time.Duration, bool) {
	switch {
	case f.this == 0:
		return f.before, f.before > 0
	case f.before == 0:
		return f.this, true
	default:
		return min(f.this, f.before), true
	}
}
