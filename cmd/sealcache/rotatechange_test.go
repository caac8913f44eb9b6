//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// A rotation says which key it has added before its last step, which disables keys, fails.
func TestKeysetChangesDuringAudit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change   func(t *testing.T, r *rotating)
		want     string // KEY is the added key, TIMES the file of key times
		disabled bool
	}{
		{func(t *testing.T, r *rotating) {
			status, _, log := sealcache(t, r.args("add")...)
			require.Equal(t, exitDone, status, log)
		}, "key KEY was added; no key was disabled: the keyset changed during the audit (run the command again)", false},
		{func(t *testing.T, r *rotating) {
			require.NoError(t, os.Remove(timesFile(r.file)))
			require.NoError(t, os.Mkdir(timesFile(r.file), 0o700))
		}, "key KEY was added; no key was disabled: the keyset was not changed, because the path TIMES is not a regular file", false},
		{func(t *testing.T, r *rotating) {
			require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(r.file), "missing", "x"), timesFile(r.file)+".new"))
		}, errTimesNotSaved.Error(), true},
	} {
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
		added := report.Actions[0].Key
		rdb.AddHook(atFirstCommand{sync.OnceFunc(func() { c.change(t, r) })})
		p := &program{log: slog.New(slog.DiscardHandler)}
		_, err = k.disable(t.Context(), p, report, view, []rotationStore{{UniversalClient: rdb}})
		first := r.ring(t).Keys()[0]
		require.Equal(t, old, first.ID)
		if c.disabled {
			require.ErrorContains(t, err, c.want)
			require.Equal(t, []rotationAction{{"added", added}, {"disabled", old}}, report.Actions)
			require.Equal(t, keyset.Disabled, first.Status)
			continue
		}
		require.EqualError(t, err, strings.NewReplacer("KEY", fmt.Sprint(added), "TIMES", timesFile(r.file)).Replace(c.want))
		require.Len(t, report.Actions, 1)
		require.Equal(t, keyset.Enabled, first.Status)
	}
	require.EqualError(t, new(rotationReport).notDisabled(errChangedDuringAudit), "no key was disabled: the keyset changed during the audit (run the command again)")
}
