// Package asynqjobs seals what jobs on asynq leave in Redis: payloads, headers, results, error and panic texts, trace context,
// periodic schedules and, if asked, type names.
//
// # Getting started
//
// Three lines of an existing application change, and one call in its handlers:
//
//	client, err := asynqjobs.NewClient(asynq.NewClient(redis), e)     // was asynq.NewClient(redis)
//	cfg, err := asynqjobs.Config(e, asynq.Config{...})                // was asynq.Config{...}
//	handler, err := asynqjobs.Handler(e, mux)                         // was mux
//	srv := asynq.NewServer(redis, cfg)
//	err = srv.Run(handler)
//
// e is a jobs.Encryptor. Unique tasks, hidden type names and schedules need one with jobs.WithPRF. A GroupAggregator needs
// [WithGroupClient]. In handlers, t.ResultWriter().Write(b) becomes [WriteResult](ctx, b), because asynq's ResultWriter cannot
// be replaced. The task that a handler sees has no ResultWriter; asynq.GetTaskID(ctx) returns the id.
//
// Do not change a running fleet in one step. A worker with asynq's own handler archives sealed jobs at the first try.
// [WithPlaintext] has the states of a rolling rollout, and docs/rollout.md leads through them. All workers need asynq 0.26 or
// newer: an older one drops the headers of a task that it retries, and with them the sealed payload of a unique task; see
// [ReasonRewritten].
//
// New code may use typed jobs, one definition for both sides:
//
//	var Welcome = asynqjobs.Define[WelcomeArgs]("mail:welcome", asynq.MaxRetry(5))
//
//	info, err := Welcome.Delay(ctx, client, WelcomeArgs{User: 42})
//	Welcome.Handle(mux, func(ctx context.Context, args WelcomeArgs) error { ... })
//	args, err := Welcome.Args(ctx, client, info) // of a dead letter
//
// [Client.EnqueueMany] and Job.DelayMany enqueue many jobs in one round trip, with [WithPipeline].
//
// [DefineWith] gives a definition its own codec, and [DefineResult] gives results a type.
//
// # What keeps working
//
// Handlers, mux middleware and the functions of asynq.Config see opened tasks with their real type names. Errors keep
// their identity: SkipRetry, RevokeTask, IsFailure and IsPanicError answer as before. Options given to asynq.NewTask
// stay in force. Unique tasks follow asynq's rules exactly. Groups, retention, deadlines, retries, scheduled tasks and
// the Inspector work. A payload is sealed once, when it is enqueued, and opened at each try.
//
// # What replaces the rest of asynq
//
// The parts of asynq that enqueue or write by themselves cannot be wrapped. They write plaintext, which a handler of this package
// archives.
//
//	asynq                                here
//	Scheduler.Register(cron, task)       Scheduler.ScheduleOnce(ctx, name, Cron(cron), task)
//	Scheduler.Unregister(entry)          Scheduler.Cancel(ctx, name)
//	SchedulerOpts.Location               Cron("CRON_TZ=Europe/Berlin 30 4 * * *")
//	SchedulerOpts.PreEnqueueFunc         none; the handler can do its work
//	SchedulerOpts.PostEnqueueFunc,       none; the metric sealcache.jobs.ticks and the log
//	  EnqueueErrorHandler                  (WithMeterProvider, WithLogger)
//	PeriodicTaskManager,                 Scheduler.Sync(ctx, tasks), at start and whenever the configs change
//	  PeriodicTaskConfigProvider
//	Unique, Group, Deadline, ProcessAt   refused; a tick runs once by itself, and its handler may enqueue a task
//	  of a periodic task                   that has them
//	Task.ResultWriter().Write(b)         WriteResult(ctx, b)
//	Task.ResultWriter().TaskID()         asynq.GetTaskID(ctx)
//	TaskInfo.Result                      Client.OpenResult(ctx, info), or OpenResult
//	TaskInfo.LastErr                     OpenFailure(ctx, e, info), and ReasonOf(info)
//	TaskInfo.Type, Payload, Headers      OpenTask(ctx, e, info)
//	NewTask(info.Type, info.Payload)     OpenTask(ctx, e, info); a sealed payload is ErrAlreadySealed
//	Inspector.UpdateTaskPayload          Client.UpdateTaskPayload
//	Inspector.SchedulerEntries           Scheduler.List(ctx)
//	Inspector, all other methods         the same
//	asynqmon                             package monitor
//	the asynq command                    the same; it shows sealed bytes
//
// # What is bound
//
// A payload opens only under the type, queue and id that it was enqueued with, and a member of a group only in its group. An
// attacker who can write to Redis cannot give one job the arguments of another, or run them under another type. The attacker can
// delete jobs, delay them, enqueue an old one again unchanged, and put back a schedule that was cancelled or replaced. Queue and
// group names, ids, times, sizes, and which unique jobs are equal stay visible. Plaintext in an error text proves nothing: an
// attacker may have written what [ReasonOf] reads and what [OpenFailure] returns before the sealed part.
//
// A tick is one time at which a schedule is due. Its task is kept for two minutes, so that the tick is not enqueued twice. A
// tick may still run twice, if an operator deletes the task, or if the scheduler is suspended for longer than two minutes
// before it enqueues the task. Handlers of periodic jobs must allow for that, like handlers of retried jobs.
//
// # A job that does not open
//
// If it can never open, it is archived at once: it is plaintext, altered, moved, in an unknown format, or under a key that the
// keyset lists as disabled or destroyed. Its error text is a [Refusal], which the Inspector shows and [ReasonOf] reads.
//
// If the key service is down, the job is retried. With [Config] that does not use up a try. A job without a try left waits in
// the worker until its timeout, and occupies one of the server's Concurrency slots. It is archived only if its own timeout or
// deadline ends first: give jobs a MaxRetry of at least one if the key service may be down.
//
// If the keyset does not list the key, the keyset is reloaded. An aead.Keyring reloads itself. Under an aead.Envelope, jobs.WithReload
// says what to reload: the Keyring that is its KEK (fxmodule does this). If that does not help, the job is retried as after any
// failure.
//
// Each member of a group states its queue and id, because asynq passes neither of them to an aggregator.
// If a server has several queues, the queue of a group is the one that most members state. An attacker can outvote
// honest members with old ones of another queue, and have them refused. Give a queue with groups its own server.
// Members that do not open become their own tasks; see [WithGroupClient].
//
// # Concurrency
//
// Everything here is safe for concurrent use.
package asynqjobs
