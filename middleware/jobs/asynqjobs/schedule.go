package asynqjobs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is the rule by which a periodic job runs. Every and Cron make one. A
// mistake in it is reported when the job is registered.
type Schedule struct{ spec string }

// Every returns a schedule with equal intervals. d is at least one second and a whole
// number of milliseconds. The first tick comes one interval after the registration.
// Restarts do not shift the ticks.
func Every(d time.Duration) Schedule { return Schedule{everyPrefix + d.String()} }

// Cron returns a schedule from a cron expression. It has five fields: minute, hour, day of month,
// month, day of week. Or it is @hourly, @daily, @weekly, @monthly, @yearly, or "@every 90s", which
// means Every.
//
// Times are in UTC. Another time zone stands before the expression, as in
// "CRON_TZ=Europe/Berlin 30 4 * * *". It must be a name of the IANA database: "Local"
// is refused, because processes may differ in it. A zone before @every is refused.
//
// When clocks are put forward, a time that does not exist on that day is skipped. When they are put
// back and a time exists twice, only the first one counts, unless the hour is "*".
func Cron(spec string) Schedule { return Schedule{strings.TrimSpace(spec)} }

// String returns the schedule as an expression for Cron.
func (s Schedule) String() string { return s.spec }

const everyPrefix = "@every "

// ticker computes the ticks of a schedule.
type ticker interface {
	// next returns the first tick after t.
	next(t time.Time) time.Time
}

// parse reads the schedule of a job that was registered at anchor.
func (s Schedule) parse(anchor time.Time) (ticker, error) {
	if text, ok := strings.CutPrefix(s.spec, everyPrefix); ok {
		d, err := time.ParseDuration(strings.TrimSpace(text))
		switch {
		case err != nil:
			return nil, fmt.Errorf("asynqjobs: schedule %s: \"@every\" must be followed by a duration such as 90s", quoted(s.spec))
		case d < time.Second:
			return nil, fmt.Errorf("asynqjobs: schedule %s: the interval is less than one second", quoted(s.spec))
		case d%time.Millisecond != 0: // ticks are stored to the millisecond
			return nil, fmt.Errorf("asynqjobs: schedule %s: the interval is not a whole number of milliseconds", quoted(s.spec))
		}
		return interval{anchor: anchor, every: d}, nil
	}
	if s.spec == "" {
		return nil, errors.New("asynqjobs: schedule: the schedule is empty (make one with the function Every or Cron)")
	}
	c, err := parseCron(s.spec)
	if err != nil {
		return nil, err
	}
	if c.Next(anchor).IsZero() {
		return nil, fmt.Errorf("asynqjobs: schedule %s: the cron expression matches no date", quoted(s.spec))
	}
	return calendar{c}, nil
}

// parseCron calls package cron, which panics if it finds no blank after a time zone.
// It recovers from any other panic too, because expressions may come from a
// configuration.
func parseCron(spec string) (c *cron.SpecSchedule, err error) {
	defer func() {
		if recover() != nil {
			c, err = nil, fmt.Errorf("asynqjobs: schedule %s: the text is not a cron expression", quoted(spec))
		}
	}()
	zone, hasZone := strings.CutPrefix(spec, "CRON_TZ=")
	if !hasZone {
		zone, hasZone = strings.CutPrefix(spec, "TZ=")
	}
	var name string
	if hasZone {
		var ok bool
		name, _, ok = strings.Cut(zone, " ")
		switch {
		case !ok:
			return nil, fmt.Errorf("asynqjobs: schedule %s: the cron expression after the time zone is missing", quoted(spec))
		case name == "":
			return nil, fmt.Errorf("asynqjobs: schedule %s: the time zone is empty", quoted(spec))
		}
	}
	parsed, err := cron.ParseStandard(spec)
	if err != nil {
		if len(spec) > maxQuoted { // the error may repeat all of it
			return nil, fmt.Errorf("asynqjobs: schedule %s: the text is not a cron expression", quoted(spec))
		}
		if _, zoneErr := time.LoadLocation(name); hasZone && zoneErr != nil {
			return nil, fmt.Errorf("asynqjobs: schedule %s: %w (correct it, or import time/tzdata)", quoted(spec), zoneErr)
		}
		return nil, fmt.Errorf("asynqjobs: schedule %s: the text is not a cron expression: %w", quoted(spec), err)
	}
	c, ok := parsed.(*cron.SpecSchedule)
	switch {
	case !ok:
		return nil, fmt.Errorf("asynqjobs: schedule %s: \"@every\" cannot have a time zone (remove the time zone)", quoted(spec))
	case hasZone && (c.Location == time.Local || isMachineZone(c.Location.String())):
		return nil, fmt.Errorf("asynqjobs: schedule %s: local time is not allowed (give a zone, such as Europe/Paris)", quoted(spec))
	}
	return c, nil
}

// maxQuoted bounds the part of an expression that an error quotes.
const maxQuoted = 64

// quoted returns an expression in quotation marks, or its start if it is longer than maxQuoted.
func quoted(spec string) string {
	if len(spec) <= maxQuoted {
		return strconv.Quote(spec)
	}
	return strconv.Quote(spec[:maxQuoted]) + "..."
}

// isMachineZone reports whether a name of the database means the zone of the machine, as "localtime" does on Debian.
func isMachineZone(name string) bool {
	return strings.HasSuffix(name, "localtime") || strings.HasSuffix(name, "posixrules")
}

// interval ticks at anchor plus n times every. n may be negative, because a server's clock that was
// set back may show a time before the registration.
type interval struct {
	anchor time.Time
	every  time.Duration
}

func (i interval) next(t time.Time) time.Time {
	since := t.Sub(i.anchor) % i.every
	if since < 0 {
		since += i.every
	}
	return t.Add(i.every - since)
}

// calendar ticks at the times of a cron expression.
type calendar struct{ c *cron.SpecSchedule }

// next computes in UTC, so that an expression without a zone does not depend on the
// machine's zone. It leaves out ticks with the wall time of an earlier tick.
func (c calendar) next(t time.Time) time.Time {
	for t = c.c.Next(t.UTC()); !t.IsZero() && c.repeats(t); t = c.c.Next(t) {
	}
	return t
}

// anyHour is the bit by which package cron marks a field that is "*".
const anyHour = 1 << 63

// repeats reports whether the wall time of t exists twice on its day and t is the
// second one, in an expression that names hours.
func (c calendar) repeats(t time.Time) bool {
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

// due returns the ticks after last and up to now. It returns all ticks of the last
// catchUp. If there are none, it returns the latest tick before them. The number of
// ticks is bounded by catchUp in seconds, and is at least one if any was missed.
func due(tk ticker, last, now time.Time, catchUp time.Duration) []time.Time {
	if first := tk.next(last); first.IsZero() || first.After(now) {
		return nil
	}
	for window := catchUp; ; window *= 2 {
		from := now.Add(-window)
		if window <= 0 || from.Before(last) { // window overflowed, or covers all ticks
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
