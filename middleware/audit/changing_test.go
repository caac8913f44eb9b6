package audit_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// beforeCommand calls do before the first pipeline that has a command.
type beforeCommand struct {
	command string
	do      func()
	called  atomic.Bool
}

func (*beforeCommand) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*beforeCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *beforeCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == h.command }) && h.called.CompareAndSwap(false, true) {
			h.do()
		}
		return next(ctx, cmds)
	}
}

// A value that the application replaces while it is looked at counts as what it is then. It does not drop out of the answer.
func TestAuditCountsWhatAValueHasBecome(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		becomes string
		want    audit.Answer
	}{
		"plaintext":         {"plaintext", audit.Yes},
		"of unknown format": {"\xC1\x5C\x09 of another release", audit.Unknown},
		"empty":             {"", audit.Yes},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			rdb, app := server.Client(t), server.Client(t)
			a := sealtest.Keyring(t)
			require.NoError(t, migratetest.SealedStore(t, rdb, a, "ns").Set(t.Context(), "k", "v"))
			hook := &beforeCommand{command: "mget", do: func() { require.NoError(t, app.Set(t.Context(), "ns:k", c.becomes, 0).Err()) }}
			rdb.AddHook(hook)
			answer, why := audited(t, rdb, audit.Config{Namespace: "ns", Keys: []tink.AEADWithContext{a}}).AnythingPlaintext()
			require.True(t, hook.called.Load())
			require.Equal(t, c.want, answer, why)
		})
	}
}

// An audit is paused and resumed while it runs, gets another rate, and says so.
func TestControlOfAnAudit(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	fill(t, rdb, "ns", 200)
	control := new(audit.Control)
	control.Pause()
	var paused atomic.Bool
	r := auditedBy(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: 1e6}), t, rdb, audit.Config{
		Rate: 0.001, Control: control,
		Progress: func(p audit.Progress) {
			if len(p.Paused) > 0 && paused.CompareAndSwap(false, true) {
				if p.Seen > 0 {
					t.Error("it read while it was paused")
				}
				control.SetRate(0)
				control.Resume()
			}
		},
	})
	require.True(t, paused.Load())
	require.EqualValues(t, 200, r.Seen)
}

// The hash of a task that holds more than asynq writes there is not understood, and so is a record of runs.
func TestNothingHidesAmongBookkeeping(t *testing.T) {
	t.Parallel()
	const task, message = "asynq:{q}:t:1", "\x0a\x01t"
	const record = `{"sequence":1,"operation":"seal","job":"00112233445566778899aabbccddeeff","from":"","to":"","done":false}`
	for what, c := range map[string]struct {
		name   string
		fields []any
		want   audit.Answer
	}{
		"a task":                         {task, []any{"msg", message, "state", "pending", "pending_since", "1700000000000000000", "group", "g"}, audit.No},
		"a unique task":                  {task, []any{"msg", message, "state", "scheduled", "unique_key", "asynq:{q}:unique:t:0123"}, audit.No},
		"a task of asynq 0.23":           {task, []any{"msg", message, "state", "pending", "timeout", "1800", "deadline", "0"}, audit.No},
		"a task with another field":      {task, []any{"msg", message, "state", "pending", "note", "alice"}, audit.Unknown},
		"a task with a payload as state": {task, []any{"msg", message, "state", `{"user":"alice"}`}, audit.Unknown},
		"a record":                       {"sealcache.runs", []any{"sequence", "1", "0123456789abcdef", record}, audit.No},
		"a record with more behind it":   {"sealcache.runs", []any{"sequence", "1", "0123456789abcdef", record + "] alice"}, audit.Unknown},
		"a record with another member":   {"sealcache.runs", []any{"0123456789abcdef", strings.Replace(record, "{", `{"note":"alice",`, 1)}, audit.Unknown},
		"a record of something else":     {"sealcache.runs", []any{"0123456789abcdef", `{"sequence":1,"operation":"seal","job":"alice","from":"","to":"","done":false}`}, audit.Unknown},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Start(t).Client(t)
			require.NoError(t, rdb.HSet(t.Context(), c.name, c.fields...).Err())
			answer, why := audited(t, rdb, audit.Config{}).AnythingPlaintext()
			require.Equal(t, c.want, answer, why)
		})
	}
}
