package rediswalk

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/sleep"
)

// retryFor is how long a batch or a command is tried again while Redis or the key service fails.
const retryFor = 30 * time.Second

// ConfigError is the type of migrate.ErrConfig and audit.ErrConfig. Retry does not repeat a call that returns one.
type ConfigError string

// Error returns e.
func (e ConfigError) Error() string { return string(e) }

// Retry repeats do after a transient failure, for half a minute from the first failure. The time before the first failure
// does not count, because a run may be paused or throttled in do. do must be safe to repeat.
func Retry(ctx context.Context, log *slog.Logger, what string, do func(ctx context.Context) error) error {
	const most = 2 * time.Second
	var until time.Time
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, most) {
		err := do(ctx)
		now := time.Now()
		if until.IsZero() {
			until = now.Add(TuningOf(ctx, 0).RetryFor)
		}
		if err == nil || ctx.Err() != nil || !transient(err) || now.After(until) {
			return err
		}
		log.WarnContext(ctx, "sealcache: an operation on Redis or the key service failed; it is tried again", "operation", what, "error", rediserr.Text(err))
		if sleep.For(ctx, pause) != nil {
			return err
		}
	}
}

// RetryValue is Retry for a call that returns a value.
func RetryValue[T any](ctx context.Context, log *slog.Logger, what string, do func(ctx context.Context) (T, error)) (value T, err error) {
	err = Retry(ctx, log, what, func(ctx context.Context) (err error) {
		value, err = do(ctx)
		return err
	})
	return value, err
}

// transient reports whether a repeated call may succeed after this error. A command that the server always refuses is not
// repeated.
func transient(err error) bool {
	if errors.Is(err, ErrInfoRefused) || errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrTooManyDataKeys) {
		return true
	}
	if _, ok := errors.AsType[ConfigError](err); ok {
		return false
	}
	if errors.Is(err, redis.Nil) || errors.Is(err, errMoved) || errors.Is(err, ErrUnsuitable) || errors.Is(err, ErrNoInfo) || errors.Is(err, errNoClusterNodes) ||
		errors.Is(err, ErrRunUndone) || errors.Is(err, errTooManyRuns) || errors.Is(err, ErrRunsRefused) || errors.Is(err, ErrOpposed) || errors.Is(err, ErrUnconfirmed) || errors.Is(err, context.Canceled) || errors.Is(err, aead.ErrClosed) || errors.Is(err, aead.ErrKeyExhausted) {
		return false
	}
	return !rediserr.RefusedForGood(err)
}
