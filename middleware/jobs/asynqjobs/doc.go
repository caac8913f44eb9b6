// Package asynqjobs seals the data of jobs on asynq (github.com/hibiken/asynq), a job queue in Redis. To seal is to
// encrypt so that altered data is detected.
//
// The package seals payloads, headers, results, error texts, OpenTelemetry trace context and periodic schedules. With
// [WithHiddenTypes], it also hides type names. asynq calls a job a task.
//
// # Getting started
//
// Three lines of an existing application change, and one call in its handlers:
//
//	e, err := jobs.NewEncryptor(keys, jobs.WithNamespace("billing"))   // keys: an aead.Envelope
//	client, err := asynqjobs.NewClient(asynq.NewClient(redis), e)     // was asynq.NewClient(redis)
//	cfg, err := asynqjobs.Config(e, asynq.Config{...})                // was asynq.Config{...}
//	handler, err := asynqjobs.Handler(e, mux)                         // was mux
//	srv := asynq.NewServer(redis, cfg)
//	err = srv.Run(handler)
//
// Here, e is a jobs.Encryptor with the encryption keys. For unique tasks, hidden type names and schedules, e also
// needs the keys of a pseudorandom function: see jobs.WithPRF. If the asynq.Config has a GroupAggregator, also use
// [WithGroupClient].
//
// In handlers, replace t.ResultWriter().Write(b) by [WriteResult](ctx, b), because a decrypted task has no ResultWriter.
// To get the id of the task, call asynq.GetTaskID(ctx).
//
// # Changing a running application
//
// Do not change all processes in one step. A worker without this package cannot read a sealed task, and archives it, often
// at the first try. With [WithPlaintext], a process can still read or write plaintext tasks. docs/rollout.md describes the
// steps.
//
// All workers need asynq 0.26 or newer. When an older worker retries a unique task, the payload is lost: see
// [ReasonRewritten].
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
// [DefineWith] gives a definition its own codec, and [DefineResult] gives results a type. Job.NewTask makes a task with
// headers, or for Scheduler.Sync.
//
// [Client.EnqueueMany] and Job.DelayMany enqueue many tasks. With [WithPipeline], one round trip carries up to a
// thousand tasks or 4 MiB.
//
// # What stays the same
//
//   - Handlers, mux middleware and the functions of asynq.Config get decrypted tasks with their original type names.
//   - Handlers return the same errors, such as asynq.SkipRetry. asynq still recognizes them.
//   - Options that were given to asynq.NewTask still apply.
//   - Unique tasks, groups, retention, deadlines, retries, scheduled tasks and the Inspector work.
//
// # What replaces the rest of asynq
//
// Some parts of asynq enqueue or write by themselves, so this package cannot wrap them. They write plaintext. Use these
// replacements:
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
//	NewTask(info.Type, info.Payload)     OpenTask(ctx, e, info); Enqueue refuses the sealed payload
//	Inspector.UpdateTaskPayload          Client.UpdateTaskPayload
//	Inspector.SchedulerEntries           Scheduler.List(ctx)
//	Inspector, all other methods         the same
//	asynqmon                             package monitor
//	the asynq command                    the same; it shows sealed bytes
//
// # What an attacker can do
//
// A payload opens only under the type, queue and id of its task. The payload of a task in a group opens only in this
// group. So an attacker with write access to Redis cannot give a task the payload of another task, or run it under another
// type.
//
// The attacker can do the following:
//
//   - delete and delay tasks
//   - enqueue an old task again, unchanged
//   - restore a schedule that was canceled or replaced
//   - read the names of queues and groups, ids, times and sizes, and see which unique tasks are equal
//   - write a false error text, so do not rely on [ReasonOf] and [OpenFailure]
//
// # Periodic jobs
//
// A [Scheduler] enqueues one task at each time at which a schedule is due. Any number of processes may run a Scheduler.
//
// The task for one time can run twice in these cases:
//
//   - The task is deleted in asynq, so another Scheduler does not find it and enqueues it again.
//   - Redis loses its last writes in a failover.
//   - The process of the Scheduler is suspended for more than two minutes before it enqueues the task.
//
// So the handler of a periodic job must allow a second run, like the handler of any job that is retried.
//
// # Jobs that do not open
//
// If no later try can open a task, asynq archives it at once. The payload of such a task has one of these faults:
//
//   - It is plaintext.
//   - It was altered, or copied from another task.
//   - It is larger than jobs.WithMaxPayloadBytes.
//   - It has a format that this release does not know.
//   - It was sealed with a key that is now disabled or destroyed.
//
// The error of the task is a [Refusal]. The Inspector shows its text, and [ReasonOf] returns its reason.
//
// If the key service does not answer, asynq retries the task. With [Config], this retry does not count as a try. But if
// other errors have used up all tries but one, asynq archives the task after the last try, for any error. So in the last
// try, the handler does not return. It waits for the key service, and occupies one of the server's Concurrency slots.
// asynq archives the task only if its timeout or deadline ends during the wait. A task with MaxRetry(0) has only a last
// try, so give each task at least MaxRetry(1).
//
// The keys of the Encryptor can be a keyset, in an aead.Keyring. If the encryption key of a task is not in the keyset, the
// handler reloads the keyset. If the task still does not open, asynq retries it as after any failure. This needs no
// setting. Only if the Keyring is the key-encryption key of an aead.Envelope, pass its method Reload to jobs.WithReload.
// Package fxmodule does this.
//
// # Groups
//
// A group is a number of tasks that asynq passes to a GroupAggregator, which makes one task of them. If a task of the
// group does not open, the others are still aggregated. The task that does not open is enqueued alone: see
// [WithGroupClient].
//
// asynq does not tell the aggregator the queue of the group. If a server has several queues, the aggregator uses the queue
// that is named in most tasks of the group. So an attacker can copy many old tasks of another queue into a group, and the
// genuine tasks do not open. To prevent this, give each queue with groups its own server.
//
// # Concurrency
//
// All types and functions of this package are safe for concurrent use.
package asynqjobs
