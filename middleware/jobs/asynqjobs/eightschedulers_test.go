package asynqjobs_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Tests start in the order of their files. The longest one is here, so that the others run beside it.

// longVariable asks for tests that take minutes. `make test-long` sets it.
const longVariable = "ASYNQJOBS_TEST_LONG"

// seedVariable sets the seed of tests that draw random numbers. They log the seed that they use.
const seedVariable = "ASYNQJOBS_TEST_SEED"

// tickCount counts the runs of each tick: by schedule, then by the task's id, which is the tick's.
type tickCount struct {
	t    *testing.T
	mu   sync.Mutex
	runs map[string]map[string]int
}

func (c *tickCount) ProcessTask(ctx context.Context, task *asynq.Task) error {
	var args tickArgs
	if err := json.Unmarshal(task.Payload(), &args); err != nil || task.Type() != "tick" {
		c.t.Errorf("a task that is not a tick: %s %q", task.Type(), task.Payload())
	}
	id, _ := asynq.GetTaskID(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[args.Note] == nil {
		c.runs[args.Note] = map[string]int{}
	}
	c.runs[args.Note][id]++
	return nil
}

// of returns how many ticks of a schedule have run, and how many runs that were.
func (c *tickCount) of(name string) (ticks, runs int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.runs[name] {
		ticks++
		runs += n
	}
	return ticks, runs
}

// Eight processes register and run the same two schedules. For a minute one after the other is killed, or ended, at
// random, and another started; once all are dead for three seconds. One of them is told that a schedule is new, and
// each tick has run once: none is missing, none ran twice.
func TestEightSchedulersOneRunPerTick(t *testing.T) {
	t.Parallel()
	ticks := 60
	if testing.Short() {
		ticks = 12
	}
	countTicks(t, redistest.Start(t), ticks, nil)
}

// The same while Redis, with an append-only file, is killed and started again. Long runs are of five minutes.
func TestEightSchedulersWhileRedisRestarts(t *testing.T) {
	t.Parallel()
	ticks, every := 12, 5
	if os.Getenv(longVariable) != "" {
		ticks, every = 300, 20
	}
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	countTicks(t, srv, ticks, func(passed int, random *rand.Rand) {
		if passed%every == 0 {
			require.NoError(t, srv.Kill())
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
			require.NoError(t, srv.Restart())
		}
	})
}

// newRandom returns numbers from a seed that is logged, or from that of seedVariable.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// countTicks calls disturb about once a second of the run.
func countTicks(t *testing.T, srv *redistest.Server, ticks int, disturb func(passed int, random *rand.Rand)) {
	t.Helper()
	random := newRandom(t)
	keys := keysets(t)
	e := sharedEncryptor(t, keys)
	b := benchOn(t, srv, e)
	count := &tickCount{t: t, runs: map[string]map[string]int{}}
	cfg := asynq.Config{
		Queues: map[string]int{"ticks": 1},
		// asynq's own is up to 45 seconds, also for a tick whose lease has run out.
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
	}
	stop := serve(t, b.conn, e, cfg, count)
	var ps []*process
	for range 8 {
		ps = append(ps, spawn(t, "scheduler", keys, srv.Addr()))
	}
	eventually(t, "first ticks", patience, func() bool { n, _ := count.of("interval"); return n >= 2 })
	eventually(t, "two schedules are new", patience, func() bool { return b.rdb.Get(t.Context(), "changed").Val() == "2" })

	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
	require.NoError(t, err)
	start := time.Now()
	killed, allDead := 0, false
	for passed := 1; time.Since(start) < time.Duration(ticks)*time.Second; passed++ {
		switch i := random.IntN(len(ps)); {
		case !allDead && time.Since(start) > time.Duration(ticks)*time.Second/2:
			allDead = true
			for _, p := range ps {
				p.kill()
			}
			time.Sleep(3 * time.Second)
			for i := range ps {
				ps[i] = spawn(t, "scheduler", keys, srv.Addr())
			}
		case passed%4 == 0:
			ps[i].end()
			ps[i] = spawn(t, "scheduler", keys, srv.Addr())
		default:
			ps[i].kill()
			killed++
			ps[i] = spawn(t, "scheduler", keys, srv.Addr())
		}
		if disturb != nil {
			disturb(passed, random)
		}
		time.Sleep(time.Duration(500+random.IntN(1000)) * time.Millisecond)
	}
	// The remaining processes have caught up.
	eventually(t, "ticks are on time", patience, func() bool {
		infos, err := s.List(t.Context())
		return err == nil && len(infos) == 2 && b.rdb.Time(t.Context()).Val().Sub(infos[1].Last) < 1500*time.Millisecond
	})
	for _, p := range ps {
		p.kill()
	}
	require.Equal(t, "2", b.rdb.Get(t.Context(), "changed").Val(), "a process that started later found them as they are")
	if disturb != nil {
		// A tick that the worker was being handed when Redis died comes again when its lease has run out.
		stop()
		expireLeases(t, b.rdb, "ticks")
		serve(t, b.conn, e, cfg, count)
	}

	infos, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 2)
	for _, info := range infos {
		// A process may have been killed between enqueueing a tick and noting it: so the ticks are those noted, or one
		// more.
		noted := 0
		for at := nextTick(info, info.Since); !at.After(info.Last); at = nextTick(info, at) {
			noted++
		}
		if info.Name == "interval" {
			require.GreaterOrEqual(t, noted, ticks)
		} else {
			require.GreaterOrEqual(t, noted, ticks/60)
		}
		eventually(t, "last ticks", patience, func() bool { n, _ := count.of(info.Name); return n >= noted })
		got, runs := count.of(info.Name)
		t.Logf("%s: %d ticks noted, %d ran, in %d runs; %d processes killed", info.Name, noted, got, runs, killed)
		require.LessOrEqual(t, got, noted+1, "%s: a tick ran under two ids", info.Name)
		require.Equal(t, got, runs, "%s: a tick ran twice", info.Name)
	}
}

// nextTick is the tick of an interval of a second, or of each minute, after at.
func nextTick(info asynqjobs.ScheduleInfo, at time.Time) time.Time {
	if info.Name == "interval" {
		return at.Add(time.Second)
	}
	return at.Truncate(time.Minute).Add(time.Minute)
}
