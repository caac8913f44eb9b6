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
// asynq's ResultWriter cannot be replaced; the task that a handler sees has none, so
// that t.ResultWriter().TaskID() panics: asynq.GetTaskID(ctx) tells the id.
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
// # What becomes of the rest of asynq
//
// What enqueues or writes by itself cannot be wrapped. A task that it makes is in
// clear: in Redis, and in the archive after a handler of this package refused it.
//
//	asynq                                here
//	Scheduler.Register(cron, task)       Scheduler.ScheduleOnce(ctx, name, Cron(cron), task)
//	Scheduler.Unregister(entry)          Scheduler.Cancel(ctx, name)
//	SchedulerOpts.Location               Cron("CRON_TZ=Europe/Berlin 30 4 * * *")
//	SchedulerOpts.PreEnqueueFunc         nothing; what it did, the handler can
//	SchedulerOpts.PostEnqueueFunc,       nothing; the metric sealcache.jobs.ticks and the
//	  EnqueueErrorHandler                  log (WithMeterProvider, WithLogger)
//	PeriodicTaskManager,                 Scheduler.Sync(ctx, tasks), at start and whenever the
//	  PeriodicTaskConfigProvider           configs change
//	Unique, Group, Deadline, ProcessAt   refused; a tick runs once by itself, and its
//	  of a periodic task                   handler may enqueue a task that has them
//	Task.ResultWriter().Write(b)         WriteResult(ctx, b)
//	Task.ResultWriter().TaskID()         asynq.GetTaskID(ctx)
//	TaskInfo.Result                      Client.OpenResult(ctx, info), or OpenResult
//	TaskInfo.LastErr                     OpenFailure(ctx, e, info), and ReasonOf(info)
//	TaskInfo.Type, Payload, Headers      OpenTask(ctx, e, info)
//	Inspector.UpdateTaskPayload          Client.UpdateTaskPayload: asynq's writes the payload
//	                                       in clear, and what was sealed is gone
//	Inspector.SchedulerEntries           Scheduler.List(ctx)
//	Inspector, all other methods         as before: they need not know what is in a task
//	asynqmon                             package monitor
//	the asynq command                    as before, and shows what is sealed as it is
//
// A task stays in Redis for as long as asynq.Retention says, sealed.
//
// # What is bound
//
// A payload opens only under the type, queue and id that it was enqueued with, a
// member of a group also only in its group. So nobody who can write to Redis can
// give one job the arguments of another, or run them under another type. What he
// can do: delete jobs, delay them, enqueue an old one again unchanged, put a
// schedule back that was canceled or replaced, and see queue and group names, ids,
// times, sizes, and how often a unique job comes back. Clear text in an error stands
// for nothing: what [ReasonOf] reads, and what [OpenFailure] returns before the
// sealed part, may have been written by him.
//
// A tick's task is kept for two minutes, so that the tick is not enqueued twice. A
// scheduler that is suspended for longer between finding a tick due and enqueueing
// it (a stopped virtual machine), or an operator who deletes the task, may have it
// run again: handlers of periodic jobs should bear that, as those of retried ones.
//
// # What becomes of a job that does not open
//
// If it never can (in clear, altered, moved, in an unknown format, under a key that
// the keyset lists as disabled or destroyed) it is archived at once, and its error
// begins with a [Reason] in clear that the Inspector shows and [ReasonOf] reads.
//
// If the key service is down it is retried; with [Config] that does not count as a
// try, and a job that has no try left waits in the worker for as long as its
// timeout allows. It holds one of the server's Concurrency meanwhile, so that many of
// them keep other jobs waiting, and when its own timeout or deadline ends first it is
// archived: give jobs a MaxRetry of at least one where the key service may be away.
// Under a key that the keyset does not list the keyset is reloaded, if the encryptor
// can: an aead.Keyring reloads itself, but under an aead.Envelope only jobs.WithReload
// says what to reload, the Keyring that is its KEK (fxmodule does). If that does not
// help the job is retried as after any failure.
//
// Members of a group are told apart by what they claim, because asynq tells
// an aggregator neither queue nor id. Where a server has several queues the queue of
// a group is that which most members name: who can write to Redis can outvote honest
// members with old ones of another queue, and have them refused, as he could delete
// them. He can also hold a group up for a quarter of an hour, by a member under a key
// of his own invention. The task of a group whose members were refused ([ReasonGroup])
// has run: run again from the archive, it runs its good part a second time. Read its
// members with [OpenRefused], enqueue again with [Client.EnqueueRefused] those whose key
// has come back, then delete it. With [WithGroupClient] there is no such task, and
// members whose key comes later run without anybody's help.
//
// # Concurrency
//
// Everything here is safe for concurrent use.
package asynqjobs
