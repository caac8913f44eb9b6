package asynqjobs

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// ScheduleInfo describes a schedule.
type ScheduleInfo struct {
	Name    string
	When    Schedule
	Type    string
	Queue   string
	Payload []byte
	Since   time.Time // when it was registered
	Last    time.Time // its last tick that was enqueued, or zero
	Next    time.Time // its next tick
}

// List returns the schedules by name. Schedules that do not open within a few seconds
// are missing. The error then says why, and the others are returned with it. A schedule
// that was opened or refused a short time ago is not opened again.
func (s *Scheduler) List(ctx context.Context) ([]ScheduleInfo, error) {
	now, _, ticks, err := s.store.poll(ctx)
	if err != nil {
		return nil, err
	}
	timeout := s.listFor
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)*3/4)
	}
	update, err := s.read(ctx, now, timeout)
	if err != nil {
		return nil, err
	}
	entries, _, _ := s.cache.opened(-1)
	var infos []ScheduleInfo
	for _, en := range newest(entries) {
		d := en.def
		if d.Ended {
			continue
		}
		infos = append(infos, ScheduleInfo{
			Name: d.Name, When: Schedule{d.Spec}, Type: d.Type, Queue: d.queue(), Payload: slices.Clone(d.Payload),
			Since: d.anchor(), Last: ticks[en.field], Next: d.ticker.next(now),
		})
	}
	slices.SortFunc(infos, func(a, b ScheduleInfo) int { return strings.Compare(a.Name, b.Name) })
	if err := s.cache.unopened(false, update); err != nil {
		return infos, within("List: some schedules cannot be opened, and are not listed", err)
	}
	return infos, nil
}

// newest returns one entry of each name: that of the last call. There are two of a
// name only while processes with different PRF keys run. All entries must open.
func newest(entries []entry) []entry {
	at := map[string]int{}
	var out []entry
	for _, en := range entries {
		i, ok := at[en.def.Name]
		if !ok {
			at[en.def.Name] = len(out)
			out = append(out, en)
		} else if cmp.Or(en.def.compare(out[i].def), cmp.Compare(en.field, out[i].field)) > 0 {
			out[i] = en
		}
	}
	return out
}
