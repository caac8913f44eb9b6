package asynqjobs_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// scheduleModel is a Redis that loses data, with processes that come and go, and the call about each name that counts.
type scheduleModel struct {
	*clockwork
	rand  *rand.Rand
	calls int
	log   []string

	processes []*asynqjobs.Scheduler
	knows     []map[string]int // by process and name: the latest call that it has seen
	stored    map[string]int   // the call that Redis holds of a name
	last      map[string]call
	saved     []savedModel
}

type call struct {
	id      int // 0 if the call that counts is not defined
	payload string
}

type savedModel struct {
	state  state
	stored map[string]int
}

const modelProcesses = 3

func newScheduleModel(t *testing.T) *scheduleModel {
	t.Helper()
	w := &scheduleModel{
		clockwork: newClockwork(t), rand: newRandom(t),
		processes: make([]*asynqjobs.Scheduler, modelProcesses), knows: make([]map[string]int, modelProcesses), stored: map[string]int{}, last: map[string]call{},
	}
	for p := range w.processes {
		w.restart(p)
	}
	return w
}

func (w *scheduleModel) restart(p int) {
	_, w.processes[p] = w.with(w.e)
	w.knows[p] = map[string]int{}
}

// settle lets a process look. It learns what Redis holds, and Redis gets what the process knows better.
func (w *scheduleModel) settle(p int) {
	w.run(w.processes[p])
	for name, last := range w.last {
		if w.stored[name] == last.id || w.knows[p][name] == last.id {
			w.stored[name], w.knows[p][name] = last.id, last.id
		}
	}
}

// call records that process p made a call that counts from now on.
func (w *scheduleModel) call(p int, name, payload string) {
	w.calls++
	w.last[name] = call{w.calls, payload}
	w.stored[name], w.knows[p][name] = w.calls, w.calls
}

func (w *scheduleModel) step() {
	w.advance(time.Duration(1+w.rand.IntN(3000)) * time.Millisecond)
	p, name, note := w.rand.IntN(modelProcesses), string(rune('a'+w.rand.IntN(3))), fmt.Sprint(w.rand.IntN(2))
	switch at := w.rand.IntN(20); {
	case at < 6:
		w.log = append(w.log, fmt.Sprint(p, " registers ", name, note))
		payload, before := fmt.Sprintf(`{"Note":%q}`, note), w.last[name]
		switch {
		case w.register(w.processes[p], name, note):
			w.call(p, name, payload)
		case before.id != 0 && (w.stored[name] == before.id || w.knows[p][name] == before.id):
			require.Equal(w.t, before.payload, payload, "kept: %v", w.log)
			w.knows[p][name] = before.id
		default: // Redis has lost the call before, and this process has not seen it
			w.last[name] = call{}
		}
	case at < 9:
		w.log = append(w.log, fmt.Sprint(p, " cancels ", name))
		w.cancel(w.processes[p], name)
		w.call(p, name, "")
	case at < 13:
		w.log = append(w.log, fmt.Sprint(p, " runs"))
		w.settle(p)
	case at < 14:
		w.log = append(w.log, fmt.Sprint(p, " restarts"))
		w.restart(p)
	case at < 15:
		w.log = append(w.log, fmt.Sprint("flush, ", p, " runs"))
		w.flush()
		w.stored = map[string]int{}
		w.settle(p)
	case at < 16:
		w.log = append(w.log, "flush")
		w.flush()
		w.stored = map[string]int{}
	case at < 17:
		w.log = append(w.log, fmt.Sprint("a day, ", p, " seals again"))
		w.advance(25 * time.Hour)
		w.settle(p)
	case at < 19 || len(w.saved) == 0:
		w.log = append(w.log, fmt.Sprint("snapshot ", len(w.saved)))
		w.saved = append(w.saved, savedModel{w.save(), maps.Clone(w.stored)})
	default:
		i := w.rand.IntN(len(w.saved))
		w.log = append(w.log, fmt.Sprint("back to snapshot ", i))
		w.goBack(w.saved[i].state)
		w.stored = maps.Clone(w.saved[i].stored)
	}
}

// check requires that the last call about each name counts, if Redis or one process still knows it.
func (w *scheduleModel) check() {
	w.log = append(w.log, "check")
	for range 2 {
		for p := range w.processes {
			w.settle(p)
		}
	}
	want := map[string]string{}
	for name, last := range w.last {
		switch {
		case last.id == 0 || w.stored[name] != last.id:
			delete(w.last, name)
		case last.payload != "":
			want[name] = last.payload
		}
	}
	for _, s := range w.processes {
		infos, err := s.List(w.t.Context())
		require.NoError(w.t, err)
		got := map[string]string{}
		for _, info := range infos {
			if _, ok := w.last[info.Name]; ok {
				got[info.Name] = string(info.Payload)
			}
		}
		require.Equal(w.t, want, got, "%v", w.log)
	}
}

// The last call about a schedule counts, in any order in which Redis loses data and processes end, if Redis or one process still
// knows that call.
func TestTheLastCallCounts(t *testing.T) {
	t.Parallel()
	const worlds, checks, steps = 30, 6, 12
	for i := range worlds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newScheduleModel(t)
			for range checks {
				for range steps {
					w.step()
				}
				w.check()
			}
		})
	}
}
