//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/internal/redistest"
)

// atFirstCommand calls do before the first command.
type atFirstCommand struct{ do func() }

func (atFirstCommand) DialHook(next redis.DialHook) redis.DialHook { return next }
func (atFirstCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a atFirstCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.do()
		return next(ctx, cmd)
	}
}

// A rotation whose keyset changes during the audit disables no key, and says which key it has added before.
func TestKeysetChangesDuringAudit(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())
	r := newRotating(t)
	old := parseID(t, ids(t, r.file)[0])
	r.passes(t, 91*rotationDay)
	r.rotate(t) // adds a key
	r.passes(t, 49*time.Hour)
	r.rotate(t) // promotes it
	r.passes(t, 91*rotationDay)

	k := &keysRotate{keys: keysetFlags{kek: r.kek, keyset: r.file}, every: duration{90 * rotationDay}, settle: duration{2 * rotationDay}}
	report := new(rotationReport)
	view, err := k.step(t.Context(), report)
	require.NoError(t, err)
	require.Len(t, report.Actions, 1)
	rdb.AddHook(atFirstCommand{sync.OnceFunc(func() {
		status, _, log := sealcache(t, r.args("add")...)
		require.Equal(t, exitDone, status, log)
	})})
	p := &program{log: slog.New(slog.DiscardHandler)}
	_, err = k.disable(t.Context(), p, report, view, []rotationStore{{UniversalClient: rdb}})
	require.EqualError(t, err, fmt.Sprintf(
		"key %d was added; no key was disabled, because the keyset was changed during the audit (run the command again)", report.Actions[0].Key))
	first := r.ring(t).Keys()[0]
	require.Equal(t, old, first.ID)
	require.Equal(t, keyset.Enabled, first.Status)

	report.Actions = nil
	require.EqualError(t, report.changedDuringAudit(), "no key was disabled, because the keyset was changed during the audit (run the command again)")
}
