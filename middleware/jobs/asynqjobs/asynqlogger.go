package asynqjobs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// asynqLogger passes on the lines that asynq logs, without the parts that may quote a stored value or a key name. asynq prints
// the errors of Redis into its lines.
type asynqLogger struct{ next asynq.Logger }

// newAsynqLogger wraps the application's logger, or fallback if next is nil.
func newAsynqLogger(next asynq.Logger, fallback *slog.Logger) asynqLogger {
	if next == nil {
		next = slogLogger{fallback}
	}
	return asynqLogger{next}
}

// line also bounds a line, because it can hold the id of a planted task.
func line(args []any) string {
	return asynqwire.Shorten(rediserr.CutLine(fmt.Sprint(args...)), maxFailureBytes)
}

func (l asynqLogger) Debug(args ...any) { l.next.Debug(line(args)) }
func (l asynqLogger) Info(args ...any)  { l.next.Info(line(args)) }
func (l asynqLogger) Warn(args ...any)  { l.next.Warn(line(args)) }
func (l asynqLogger) Error(args ...any) { l.next.Error(line(args)) }
func (l asynqLogger) Fatal(args ...any) { l.next.Fatal(line(args)) }

// slogLogger is an asynq.Logger that writes to a slog.Logger.
type slogLogger struct{ log *slog.Logger }

func (l slogLogger) write(level slog.Level, args []any) {
	l.log.Log(context.Background(), level, "sealcache: asynq logged a line", "text", fmt.Sprint(args...))
}

func (l slogLogger) Debug(args ...any) { l.write(slog.LevelDebug, args) }
func (l slogLogger) Info(args ...any)  { l.write(slog.LevelInfo, args) }
func (l slogLogger) Warn(args ...any)  { l.write(slog.LevelWarn, args) }
func (l slogLogger) Error(args ...any) { l.write(slog.LevelError, args) }

// Fatal only logs: a library does not end the process. asynq 0.26 does not call it.
func (l slogLogger) Fatal(args ...any) { l.write(slog.LevelError, args) }
