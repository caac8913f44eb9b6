package migrate_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// atFirstCommand is a hook that ends the context of a run at its first command, as a client does that notices the end.
type atFirstCommand struct{ stop func() }

func (h atFirstCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h atFirstCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h atFirstCommand) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		h.stop()
		cmd.SetErr(context.Canceled)
		return context.Canceled
	}
}

// The caller's cause is named as such, for any text that it begins with.
func TestCallerStopsARun(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, text := range []string{"the shift ends", "migrate: the shift ends"} {
		cause := errors.New(text)
		ctx, stop := context.WithCancelCause(t.Context())
		rdb := server.Client(t)
		rdb.AddHook(atFirstCommand{func() { stop(cause) }})
		_, err := migrate.Run(ctx, rdb, migrate.Config{Operation: migrate.Seal, Keys: sealtest.Keyring(t), AllowUnproven: true})
		require.ErrorIs(t, err, cause)
		require.EqualError(t, err, "migrate: the run was stopped: "+text)
	}
}

// A cause whose text panics does not end the process, and the value of the panic is not shown.
func TestCallerStopsARunWithACauseThatPanics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	errCause := errors.New("the shift ends")
	ctx, stop := context.WithCancelCause(t.Context())
	rdb := server.Client(t)
	rdb.AddHook(atFirstCommand{func() { stop(sealtest.PanickingError{Cause: errCause}) }})
	report, err := migrate.Run(ctx, rdb, migrate.Config{Operation: migrate.Seal, Keys: sealtest.Keyring(t), AllowUnproven: true})
	require.ErrorIs(t, err, errCause)
	require.NotContains(t, err.Error()+report.Error, sealtest.PanicSecret)
}
