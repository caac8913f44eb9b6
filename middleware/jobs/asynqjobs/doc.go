// Package asynqjobs seals the data of asynq jobs before Redis stores it. It seals payloads, headers, results, error and panic
// texts, trace context and periodic schedules. With [WithHiddenTypes], it also hides type names.
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
// e is a jobs.Encryptor. Unique tasks, hidden type names and schedules need an Encryptor with jobs.WithPRF. A GroupAggregator
// needs [WithGroupClient].
//
// In handlers, replace t.ResultWriter().Write(b) by [WriteResult](ctx, b). The task that a handler gets has no ResultWriter. For
// its id, call asynq.GetTaskID(ctx).
//
// # Changing a running application
//
// Do not move all processes to this package in one step. A worker without this package cannot read a sealed job. It archives the
// job, often at the first try. [WithPlaintext] sets what a process does with plaintext tasks. docs/rollout.md gives the steps of a
// rollout.
//
// All workers need asynq 0.26 or newer. An older worker drops the headers of a task that it retries. The sealed payload of a
// unique task is in a header, so that payload is lost: see [ReasonRewritten].
//
// # Typed jobs
//
// New code can use typed jobs. The enqueuing code and the handler then share one definition:
//
//	var Welcome = asynqjobs.Define[WelcomeArgs]("mail:welcome", asynq.MaxRetry(5))
//
//	info, err := Welcome.Delay(ctx, client, WelcomeArgs{User: 42})
//	Welcome.Handle(mux, func(ctx context.Context, args WelcomeArgs) error { ... })
//	args, err := Welcome.Args(ctx, client, info) // of an archived task
//
// [DefineWith] gives a definition its own codec, and [DefineResult] gives results a type.
//
// [Client.EnqueueMany] and Job.DelayMany enqueue many jobs. With [WithPipeline], a thousand jobs or 4 MiB take one round trip.
//
// # What stays the same
//
//   - Handlers, mux middleware and the functions of asynq.Config get decrypted tasks with their original type names.
//   - Handlers return the same errors, such as asynq.SkipRetry and asynq.RevokeTask. asynq and asynq.IsPanicError still
//     recognize them. [Config] describes the errors that IsFailure gets.
//   - Options that were given to asynq.NewTask still apply.
//   - Unique tasks follow asynq's rules.
//   - Groups, retention, deadlines, retries, scheduled tasks and the Inspector work.
//
// The client seals a payload once, when it enqueues the task. The handler opens the payload at each try.
//
// # What replaces the rest of asynq
//
// This package cannot wrap the parts of asynq that enqueue or write by themselves. They write plaintext. A handler of this package
// archives a plaintext task, unless [WithPlaintext] accepts it. Use these replacements:
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
//	Unique, Group, Deadline, ProcessAt   refused; the handler of the periodic task can enqueue a task with these
//	  of a periodic task                   options
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
// # What an attacker can do
//
// A payload opens only under the type, queue and id of its task. The payload of a task in a group opens only in this group. So an
// attacker with write access to Redis cannot give a job the payload of another job. The attacker cannot run a payload under
// another type either.
//
// The attacker can do the following:
//
//   - delete and delay jobs
//   - enqueue an old job again, unchanged
//   - restore a schedule that was canceled or replaced
//   - read the names of queues and groups, ids, times and sizes, and see which unique jobs are equal
//   - write a false error text. Do not trust the result of [ReasonOf], or the text that [OpenFailure] returns in front of the
//     sealed part.
//
// # Periodic jobs
//
// A tick is one time at which a schedule is due. Each tick enqueues one task. After the task has run, Redis keeps it for at
// least two minutes. During this time asynq refuses a second task for the tick.
//
// A tick can still run twice in two cases. An operator deletes the task, or the scheduler process is suspended for more than two
// minutes before it enqueues the task. So the handler of a periodic job must be idempotent, like the handler of any retried job.
//
// # Jobs that do not open
//
// If no later try can open a job, asynq archives the job at once. The payload of such a job has one of these faults:
//
//   - It is plaintext.
//   - It was altered, or copied from another job.
//   - It is larger than jobs.WithMaxPayloadBytes.
//   - Its format is unknown to this release.
//   - The keyset lists its key as disabled or destroyed.
//
// The error of the job is a [Refusal]. The Inspector shows its text, and [ReasonOf] returns its reason.
//
// If the key service is down, asynq retries the job. With [Config], this retry does not count as a try. If the job has no try left,
// the handler waits for the key service. The wait occupies one of the server's Concurrency slots. asynq archives the job only if its
// timeout or deadline ends during the wait. To avoid the wait, give each job a MaxRetry of at least one.
//
// If the keyset does not contain the key of a job, the handler reloads the keyset. An aead.Keyring needs no setting for this. If an
// aead.Envelope has a Keyring as its KEK, give jobs.WithReload the method Reload of the Keyring. Package fxmodule does this. If the
// job still does not open, asynq retries it as after any failure.
//
// # Groups
//
// asynq tells a GroupAggregator neither the queue nor the ids of its tasks. So each sealed task of a group contains its queue and
// id. If a server has several queues, the aggregator uses the queue that most tasks of the group name. An attacker can copy many
// old tasks of another queue into a group. The aggregator then uses the wrong queue, and the genuine tasks do not open. Give each
// queue with groups its own server.
//
// If a task of a group does not open, the aggregator enqueues it as a separate task: see [WithGroupClient].
//
// # Concurrency
//
// All types and functions of this package are safe for concurrent use.
package asynqjobs
