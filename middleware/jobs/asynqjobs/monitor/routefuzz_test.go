package monitor

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// For every path, a read changes nothing, and every change is an action that is recorded under its name. The recorded ids
// are the ids of the action.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{
		"queues", "queues/default/tasks/1", "queues/q:pause", "queues/q/groups/g/aggregating_tasks/1:run",
		"queues/q/retry_tasks:batch_run", "queues/q/pending_tasks/a:b:archive", "scheduler_entries/x/enqueue_events", "a//b", ":", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rel string) {
		if r, ok := parseRoute(http.MethodGet, rel); ok {
			require.Empty(t, r.action)
			require.Equal(t, r.view == viewTask || r.view == viewEvents, r.id != "")
			require.True(t, !isTaskList(r.view) || r.queue != "")
		}
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			r, ok := parseRoute(method, rel)
			if !ok {
				continue
			}
			require.NotEmpty(t, r.queue)
			switch r.action {
			case Pause, Resume:
				require.Equal(t, viewQueue, r.view)
			case Run, Archive, Cancel, Delete:
				require.True(t, r.view == viewQueue || isTaskList(r.view))
				of := 0
				for _, b := range []bool{r.all, r.batch, r.id != "", r.view == viewQueue} {
					if b {
						of++
					}
				}
				require.Equal(t, 1, of, "one task, some, all of a list, or a queue")
				require.True(t, strings.Contains(rel, r.id))
			default:
				t.Fatalf("action %q", r.action)
			}
		}
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodHead, http.MethodOptions, ""} {
			_, ok := parseRoute(method, rel)
			require.False(t, ok)
		}
	})
}
