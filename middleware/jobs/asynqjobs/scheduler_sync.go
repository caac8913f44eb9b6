package asynqjobs

import (
	"context"
	"fmt"

	"github.com/hibiken/asynq"
)

// PeriodicTask declares one schedule for Scheduler.Sync. The fields are the arguments
// of Scheduler.ScheduleOnce. Job.NewTask makes the Task of a typed job.
type PeriodicTask struct {
	Name    string
	When    Schedule
	Task    *asynq.Task
	Options []asynq.Option
}

// SyncResult counts what Scheduler.Sync did.
type SyncResult struct {
	Changed   int // schedules that are new or were replaced
	Kept      int // schedules that were there already
	Cancelled int // schedules that were not declared
}

// Sync declares the whole set of schedules. It registers each task as ScheduleOnce does,
// and then cancels all schedules of the namespace with other names. An empty set
// cancels all schedules.
//
// All tasks are checked first: a mistake in one of them, or a name that occurs twice, is
// an error that changes nothing. After another error, Sync may have done a part of its
// work, and it cancels nothing unless all tasks are registered. Call it again.
//
// Schedules that can never open, such as forged ones, never run and are left. If schedules cannot
// be read at this time, Sync returns an error, because they may have to be cancelled. Sync does not
// find schedules that Redis has just lost and that only other processes have read. These come back.
//
// As with ScheduleOnce, the last call wins. Do not mix Sync with ScheduleOnce in one namespace:
// Sync cancels schedules that are not among them. During a rollout, processes of the old release
// that restart restore their set.
func (s *Scheduler) Sync(ctx context.Context, tasks []PeriodicTask) (SyncResult, error) {
	var result SyncResult
	now, _, _, err := s.store.poll(ctx)
	if err != nil {
		return result, err
	}
	declared := make(map[string]bool, len(tasks))
	for i, t := range tasks {
		if declared[t.Name] {
			return result, fmt.Errorf("asynqjobs: Sync: task %d: the name %q occurs twice", i, t.Name)
		}
		declared[t.Name] = true
		if _, err := newDefinition(t.Name, t.When, t.Task, t.Options, now); err != nil {
			return result, within(fmt.Sprintf("Sync: task %d", i), err)
		}
	}
	for _, t := range tasks {
		changed, err := s.ScheduleOnce(ctx, t.Name, t.When, t.Task, t.Options...)
		switch {
		case err != nil:
			return result, within("Sync", err)
		case changed:
			result.Changed++
		default:
			result.Kept++
		}
	}
	update, err := s.read(ctx, now, s.listFor)
	if err != nil {
		return result, err
	}
	entries, _, _ := s.cache.opened(-1)
	for _, en := range newest(entries) {
		s.latest.learn(en.def, now)
	}
	calls, _ := s.latest.all(nil)
	for _, l := range calls { // Redis may just have lost some of them
		name := l.def.Name
		if l.def.Ended || declared[name] {
			continue
		}
		cancelled, err := s.Cancel(ctx, name)
		if err != nil {
			return result, within("Sync", err)
		}
		if cancelled {
			result.Cancelled++
		}
	}
	if err := s.cache.unopened(true, update); err != nil {
		return result, within("Sync: schedules that cannot be opened now were left in place", err)
	}
	return result, nil
}
