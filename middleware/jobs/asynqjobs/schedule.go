package asynqjobs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule says when a periodic job runs: Every or Cron. Mistakes are reported
// when it is used.
type Schedule struct{ spec string }

// Every is at equal distances of at least one second and whole milliseconds, the
// first one distance after the job was registered. The distances are counted from then on, so that
// restarts do not shift them.
func Every(d time.Duration) Schedule { return Schedule{everyPrefix + d.String()} }

// Cron is a cron expression: five fields (minute, hour, day of month, month, day
// of week) or @hourly, @daily, @weekly, @monthly, @yearly, or "@every 90s", which is
// Every. Times are UTC unless the expression begins with a zone, as in
// "CRON_TZ=Europe/Berlin 30 4 * * *"; a zone before @every is an error. Where clocks
// are put forward, a time that does not exist on a day is left out; where they are
// put back, one that comes twice runs once, the first time, unless the hour is "*".
func Cron(spec string) Schedule { return Schedule{strings.TrimSpace(spec)} }

// String is the schedule as an expression for Cron.
func (s Schedule) String() string { return s.spec }

const everyPrefix = "@every "

// ticker gives the ticks of a schedule.
type ticker interface {
	// next is the first tick after t.
	next(t time.Time) time.Time
}

// parse reads the schedule of a job that was registered at anchor.
func (s Schedule) parse(anchor time.Time) (ticker, error) {
	if text, ok := strings.CutPrefix(s.spec, everyPrefix); ok {
		d, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("asynqjobs: schedule %q: not a duration", s.spec)
		}
		if d < time.Second {
			return nil, fmt.Errorf("asynqjobs: schedule %q: at least one second", s.spec)
		}
		if d%time.Millisecond != 0 { // ticks are stored to the millisecond
			return nil, fmt.Errorf("asynqjobs: schedule %q: whole milliseconds", s.spec)
		}
		return interval{anchor: anchor, every: d}, nil
	}
	if s.spec == "" {
		return nil, errors.New("asynqjobs: empty schedule: use Every or Cron")
	}
	c, err := cron.ParseStandard(s.spec)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: schedule: %w", err)
	}
	spec, ok := c.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("asynqjobs: schedule %q: @every has no zone: use Every", s.spec)
	}
	if c.Next(anchor).IsZero() {
		return nil, fmt.Errorf("asynqjobs: schedule %q never comes", s.spec)
	}
	return calendar{spec}, nil
}

// interval ticks at anchor plus n times every, n from 1.
type interval struct {
	anchor time.Time
	every  time.Duration
}

func (i interval) next(t time.Time) time.Time {
	if t.Before(i.anchor) {
		return i.anchor.Add(i.every)
	}
	since := t.Sub(i.anchor)
	return t.Add(i.every - since%i.every)
}

// calendar ticks when a cron expression says.
type calendar struct{ c *cron.SpecSchedule }

// next keeps an expression without a zone independent of the machine's, and leaves
// out what has the wall time of an earlier tick.
func (c calendar) next(t time.Time) time.Time {
	for t = c.c.Next(t.UTC()); !t.IsZero() && c.again(t); t = c.c.Next(t) {
	}
	return t
}

// anyHour is how package cron marks a field that is "*".
const anyHour = 1 << 63

// again tells whether t is the second time of its day's wall time, in an expression
// that names hours.
func (c calendar) again(t time.Time) bool {
	if c.c.Hour&anyHour != 0 || c.c.Location == time.Local {
		return false
	}
	local := t.In(c.c.Location)
	start, _ := local.ZoneBounds()
	if start.IsZero() {
		return false
	}
	_, before := start.Add(-time.Nanosecond).Zone()
	_, now := local.Zone()
	return t.Sub(start) < time.Duration(before-now)*time.Second
}

// due returns the ticks after last that have come at now: all of the last
// catchUp, and if there are none, the latest that was missed before. Fewer than
// catchUp in seconds are ever returned, and one at least if any was missed.
func due(tk ticker, last, now time.Time, catchUp time.Duration) []time.Time {
	if first := tk.next(last); first.IsZero() || first.After(now) {
		return nil
	}
	for window := catchUp; ; window *= 2 {
		from := now.Add(-window)
		if window <= 0 || from.Before(last) { // overflow, or all there is
			from = last
		}
		var ticks []time.Time
		for t := tk.next(from); !t.IsZero() && !t.After(now); t = tk.next(t) {
			ticks = append(ticks, t)
		}
		switch {
		case len(ticks) == 0 && from.After(last):
			continue
		case window == catchUp || len(ticks) == 0:
			return ticks
		default:
			return ticks[len(ticks)-1:]
		}
	}
}
