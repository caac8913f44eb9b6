package rediswalk

import (
	"context"
	"sync"
	"time"
)

// KeepReporting calls report at once, then at each interval, and a last time when stop is closed.
func KeepReporting(every time.Duration, stop <-chan struct{}, report func(final bool)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		report(false)
		select {
		case <-stop:
			report(true)
			return
		case <-tick.C:
		}
	}
}

// Start watches the servers and, unless report is nil, keeps calling it, until end is called. See Watch and KeepReporting.
func (g Guard) Start(ctx context.Context, s *Servers, t *Throttle, every time.Duration, report func(final bool)) (end func()) {
	watching, done := context.WithCancel(ctx)
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { g.Watch(watching, s, t) })
	if report != nil {
		background.Go(func() { KeepReporting(every, stop, report) })
	}
	return func() {
		done()
		close(stop)
		background.Wait()
	}
}

// Pace smooths the rate and the remaining time of a scan. The zero value is ready for use.
type Pace struct {
	begun    bool
	elapsed  time.Duration
	seen     int64
	fraction float64
	rate     float64 // entries per second
	speed    float64 // fraction per second
}

// Update takes the present state and returns entries per second and the remaining time, 0 while it is not known.
func (p *Pace) Update(elapsed time.Duration, seen int64, fraction float64) (entries float64, remaining time.Duration) {
	const weight = 0.3 // of the newest
	if dt := (elapsed - p.elapsed).Seconds(); p.begun && dt > 0 {
		rate, speed := float64(seen-p.seen)/dt, (fraction-p.fraction)/dt
		if p.rate == 0 {
			p.rate, p.speed = rate, speed
		} else {
			p.rate += weight * (rate - p.rate)
			p.speed += weight * (speed - p.speed)
		}
	}
	p.begun, p.elapsed, p.seen, p.fraction = true, elapsed, seen, fraction
	if p.speed > 0 {
		seconds := (1 - fraction) / p.speed
		if seconds < 1e8 {
			remaining = time.Duration(seconds * float64(time.Second))
		}
	}
	return max(p.rate, 0), remaining
}
