// Package asynqjobs seals what jobs on asynq leave in Redis: payloads, headers,
// results, error and panic texts, periodic schedules and, if asked, type names.
//
// # Moving an existing application
//
// Three lines change, and one call:
//
//	client, err := asynqjobs.NewClient(asynq.NewClient(redis), e)     // was asynq.NewClient(redis)
//	cfg, err := asynqjobs.Config(e, asynq.Config{...})                // was asynq.Config{...}
//	handler, err := asynqjobs.Handler(e, mux)                         // was mux
//	srv := asynq.NewServer(redis, cfg)
//	err = srv.Run(handler)
//
// and in handlers t.ResultWriter().Write(b) becomes WriteResult(ctx, b), because
// asynq's ResultWriter cannot be replaced; the task that a handler sees has none.
// e is a jobs.Encryptor; unique tasks, hidden type names and schedules need one
// with jobs.WithPRF. While jobs in clear are still queued, [WithClearUntil] lets
// them pass until a date.
//
// New code may use typed jobs instead, one definition that both sides share:
//
//	var Welcome = asynqjobs.Define[WelcomeArgs]("mail:welcome", asynq.MaxRetry(5))
//
//	info, err := Welcome.Delay(ctx, client, WelcomeArgs{User: 42})
//	Welcome.Handle(mux, func(ctx context.Context, args WelcomeArgs) error { ... })
//
// # What keeps working
//
// Handlers, mux middleware and the functions of asynq.Config see tasks in clear,
// with their real type names. Errors keep their identity: SkipRetry, RevokeTask,
// IsFailure and IsPanicError answer as before. Options baked into a task by
// asynq.NewTask are carried. Unique tasks are unique exactly as asynq has it;
// groups, retention, deadlines, retries, scheduled tasks and the Inspector work. A
// payload is sealed once, when it is enqueued, and opened at each try.
//
// Two things do not: asynq.Scheduler and PeriodicTaskManager enqueue by
// themselves and in clear, so use a [Scheduler] of this package; and retention in
// clear, of course: read results with [Client.OpenResult].
//
// # What is bound
//
// A payload opens only under the type, queue and id that it was enqueued with, a
// member of a group also only in its group. So nobody who can write to Redis can
// give one job the arguments of another, or run them under another type. What he
// can do: delete jobs, delay them, enqueue an old one again unchanged, and see
// queue and group names, ids, times, sizes, and how often a unique job comes back.
//
// # What becomes of a job that does not open
//
// If it never can (in clear, altered, moved, in an unknown format, under a key that
// the keyset lists as disabled or destroyed) it is archived at once, and its error
// begins with a [Reason] in clear that the Inspector shows and [ReasonOf] reads.
//
// If the key service is down it is retried; with [Config] that does not count as a
// try, and a job that has no try left waits in the worker for as long as its
// timeout allows. Under a key that the keyset does not list the keyset is reloaded
// (see jobs.WithReload), and if that does not help the job is retried as after any
// failure.
//
// # Concurrency
//
// Everything here is safe for concurrent use.
package asynqjobs
