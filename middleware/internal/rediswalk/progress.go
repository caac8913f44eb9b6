package rediswalk

import "time"

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
