package fxmodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

func TestPartOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, PartKeys, partOf(fmt.Errorf("check: %w", aead.ErrKeyServiceUnavailable)))
	require.Equal(t, PartKeys, partOf(aead.ErrClosed))
	require.Equal(t, PartProbe, partOf(errors.New("a sealed value holds its plaintext")))
}

// The package comment's table has every setting, so that it can be relied on.
func TestEverySettingHasAnUnambiguousVariable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"CACHES": true, "JOBS": true}
	for _, s := range cacheSettings() {
		require.False(t, seen[s.envName()], s.name)
		seen[s.envName()] = true
	}
	for _, s := range configSettings() {
		require.False(t, seen[s.envName()], s.name)
	}
}

// What went wrong stays, the name goes.
func TestUnquote(t *testing.T) {
	t.Parallel()
	_, missing := os.Open("/no/such/hunter2")
	err := unquote(fmt.Errorf("aead: keyset file: %w", missing), "/no/such/hunter2")
	require.EqualError(t, err, "aead: keyset file: open: "+syscall.ENOENT.Error())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, unquote(errors.New("aead: keyset variable hunter2 is not set"), "env:hunter2"), "aead: keyset variable is not set")
	other := errors.New("other")
	require.Equal(t, other, unquote(other, "env:hunter2"))
}

// What fx draws of a graph is not a promise of fx's: these are the drawings that the module reads.
func TestWhatIsReadOfTheGraph(t *testing.T) {
	t.Parallel()
	type named struct {
		fx.Out
		Mux      *asynq.ServeMux `name:"m"`
		Handlers Handlers        `group:"jobs"`
	}
	draw := func(options ...fx.Option) fx.DotGraph {
		var graph fx.DotGraph
		require.NoError(t, fx.New(fx.NopLogger, fx.Options(options...), fx.Populate(&graph)).Err())
		return graph
	}
	type optional struct {
		fx.In
		Mux *asynq.ServeMux `optional:"true"`
	}
	empty := draw(fx.Provide(func(optional) int { return 1 }), fx.Provide(func() named { return named{} }))
	require.False(t, provided(empty, "*asynq.ServeMux"), "asked for, and provided with a name")
	require.False(t, strayHandlers(empty))
	require.True(t, provided(draw(fx.Provide(asynq.NewServeMux)), "*asynq.ServeMux"))
	require.True(t, provided(draw(fx.Module("m", fx.Provide(asynq.NewServeMux))), "*asynq.ServeMux"))
	require.True(t, provided(draw(fx.Supply(asynq.Config{})), "asynq.Config"))
	require.False(t, provided(draw(fx.Supply(asynq.Config{})), "asynq.Conf"))
	require.True(t, provided(draw(fx.Provide(func() func(context.Context, monitor.Record) error { return nil })), "func(context.Context, monitor.Record) error"))
	require.True(t, strayHandlers(draw(fx.Provide(func() Handlers { return nil }))))
}

func TestHint(t *testing.T) {
	t.Parallel()
	err := fx.New(fx.NopLogger, fx.Invoke(func(*asynq.ServeMux) {})).Err()
	require.True(t, lacksMux(err))
	require.False(t, lacksStore(err))
	require.False(t, lacksMux(fx.New(fx.NopLogger, fx.Invoke(func(*asynq.Server) {})).Err()))
}
