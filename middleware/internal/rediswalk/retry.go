package rediswalk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/aead"
)

// retryFor is how long a batch or a command is tried again while Redis or the key service fails.
const retryFor = 30 * time.Second

// Retry repeats what fails for a reason that may pass, for half a minute. do must be safe to repeat.
func Retry(ctx context.Context, log *slog.Logger, what string, do func(ctx context.Context) error) error {
	const most = 2 * time.Second
	until := time.Now().Add(retryFor)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, most) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !transient(err) || time.Now().After(until) {
			return err
		}
		log.WarnContext(ctx, "sealcache: trying again", "what", what, "error", WithoutNames(err).Error())
		if wait(ctx, pause); ctx.Err() != nil {
			return err
		}
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// transient reports whether an error may pass. What a server refuses for good does not.
func transient(err error) bool {
	if errors.Is(err, aead.ErrKeyServiceUnavailable) {
		return true
	}
	if errors.Is(err, errMoved) || errors.Is(err, context.Canceled) || errors.Is(err, aead.ErrClosed) || errors.Is(err, aead.ErrKeyExhausted) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true // the network
	}
	for _, code := range []string{"LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "BUSY", "MOVED", "ASK", "OOM", "UNBLOCKED", "MISCONF"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// Wait waits until a limiter allows n. A nil limiter allows everything.
func Wait(ctx context.Context, l *rate.Limiter, n int) error {
	for l != nil && n > 0 {
		part := min(n, l.Burst())
		if err := l.WaitN(ctx, part); err != nil {
			return fmt.Errorf("rediswalk: %w", err)
		}
		n -= part
	}
	return nil
}

// WithoutNames cuts the text of an error where it may quote names or values.
func WithoutNames(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, mark := range []string{", with args beginning with", " reply=", ": parsing ", "permissions to access the '"} {
		if i := strings.Index(text, mark); i >= 0 {
			return &cutError{text: text[:i] + " (the rest is withheld: it may name keys and values)", cause: err}
		}
	}
	return err
}

type cutError struct {
	text  string
	cause error
}

func (e *cutError) Error() string { return e.text }
func (e *cutError) Unwrap() error { return e.cause }
