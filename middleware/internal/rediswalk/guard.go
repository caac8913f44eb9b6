package rediswalk

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// Guard watches the servers during a run.
type Guard struct {
	// MaxLatency pauses the run while the 99th percentile of PING is longer. 0 means no limit.
	MaxLatency time.Duration
	// MaxLagBytes pauses the run while a replica is further behind its master. 0 means no limit.
	MaxLagBytes int64
}

// Reasons of a Throttle to pause.
const (
	reasonLatency = "latency"
	reasonLag     = "replica lag"
)

const (
	pingEvery   = 20 * time.Millisecond
	pings       = 50 // the sample that the 99th percentile is of
	inspectEach = time.Second
)

// Watch runs until ctx ends. If a server does not answer, Watch ignores that: the calls of the run report it. So a pause for
// replica lag ends after half a minute without an answer.
func (g Guard) Watch(ctx context.Context, s *Servers, t *Throttle) {
	every := pingEvery
	switch {
	case g.MaxLatency > 0:
	case g.MaxLagBytes > 0:
		every = inspectEach
	default:
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var times []time.Duration
	var inspected, failing time.Time // failing is when the first of the last failures came
	for {
		if g.MaxLatency > 0 {
			if times = append(times, s.slowestPing(ctx)); len(times) > pings {
				times = times[1:]
			}
			pauseIf(t, reasonLatency, percentile99(times) > g.MaxLatency)
		}
		if g.MaxLagBytes > 0 && time.Since(inspected) >= inspectEach/2 {
			states, err := s.States(ctx)
			switch now := time.Now(); {
			case err == nil:
				inspected, failing = now, time.Time{}
				pauseIf(t, reasonLag, slices.ContainsFunc(states, func(m State) bool { return m.LagBytes > g.MaxLagBytes }))
			case failing.IsZero():
				failing = now
			case now.Sub(failing) > retryFor:
				t.Resume(reasonLag)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// slowestPing returns how long the slowest master takes to answer PING.
func (s *Servers) slowestPing(ctx context.Context) (slowest time.Duration) {
	_ = s.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		begun := time.Now()
		err := node.Ping(ctx).Err()
		slowest = max(slowest, time.Since(begun))
		return err
	})
	return slowest
}

func pauseIf(t *Throttle, reason string, pause bool) {
	if pause {
		t.Pause(reason)
	} else {
		t.Resume(reason)
	}
}

// percentile99 returns the 99th percentile of times. With fewer than a hundred it is the second longest, so that one
// outlier does not pause a run.
func percentile99(times []time.Duration) time.Duration {
	if len(times) < 2 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-2, len(sorted)*99/100)]
}

// State holds the fields of INFO of a master.
type State struct {
	RunID      string
	History    string // master_replid, which changes with a restart and a promotion
	Now        int64  // Unix seconds by the server's clock, 0 if it does not show them
	Started    int64  // by the same clock
	UsedMemory int64
	MaxMemory  int64  // 0 means no limit
	Policy     string // maxmemory_policy
	Evicted    int64  // entries since it started
	Online     int    // replicas that listen; 0 if the server does not show its own offset
	Syncing    int    // replicas that are being filled
	Offset     int64  // master_repl_offset
	LagBytes   int64  // of the online replica that is furthest behind Offset
}

// States returns the state of each master.
func (s *Servers) States(ctx context.Context) ([]State, error) {
	var all []State
	err := s.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		info, err := s.info(ctx, node)
		if err != nil {
			return err
		}
		all = append(all, parseState(info))
		return nil
	})
	return all, err
}

func parseState(info string) State {
	n := func(name string) int64 {
		n, _ := strconv.ParseInt(rediscmd.InfoField(info, name), 10, 64)
		return n
	}
	m := State{
		RunID: rediscmd.InfoField(info, "run_id"), History: rediscmd.InfoField(info, "master_replid"), UsedMemory: n("used_memory"), MaxMemory: n("maxmemory"),
		Policy: rediscmd.InfoField(info, "maxmemory_policy"), Evicted: n("evicted_keys"),
	}
	if m.Now = n("server_time_usec") / 1e6; m.Now > 0 {
		m.Started = m.Now - n("uptime_in_seconds")
	}
	if rediscmd.InfoField(info, "master_repl_offset") == "" {
		return m
	}
	m.Offset = n("master_repl_offset")
	for line := range strings.Lines(info) { // slave0:ip=127.0.0.1,port=6380,state=online,offset=42,lag=0
		name, fields, ok := strings.Cut(line, ":")
		if !ok || !strings.HasPrefix(name, "slave") || !strings.Contains(fields, "state=") {
			continue // slave_repl_offset, for example
		}
		if strings.Contains(fields, "port=0,") { // a backup that follows the stream and confirms nothing
			continue
		}
		if !strings.Contains(fields, "state=online") {
			m.Syncing++
			continue
		}
		m.Online++
		_, rest, ok := strings.Cut(fields, "offset=")
		text, _, _ := strings.Cut(rest, ",")
		at, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if !ok || err != nil {
			at = 0
		}
		m.LagBytes = max(m.LagBytes, m.Offset-at)
	}
	return m
}
