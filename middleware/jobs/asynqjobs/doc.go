// Package asynqjobs seals the data of jobs on asynq (github.com/hibiken/asynq), a job queue in Redis. To seal is to encrypt
// so that altered data is detected. asynq calls a job a task.
//
// The package seals payloads, headers, results, error texts, OpenTelemetry trace context and periodic schedules. With
// [WithHiddenTypes], it also hides type names.
//
// # Getting started
//
// In an existing application, change the three lines with the comment "was", and one call in the handlers:
//
//	e, err := jobs.NewEncryptor(keys, jobs.WithNamespace("billing"))   // keys: an aead.Envelope
//	client, err := asynqjobs.NewClient(asynq.NewClient(redis), e)     // was asynq.NewClient(redis)
//	cfg, err := asynqjobs.Config(e, asynq.Config{...})                // was asynq.Config{...}
//	handler, err := asynqjobs.Handler(e, mux)                         // was mux
//	srv := asynq.NewServer(redis, cfg)
//	err = srv.Run(handler)
//
// In handlers, replace t.ResultWriter().Write(b) by [WriteResult](ctx, b), because a decrypted task has no ResultWriter.
// Unique tasks, hidden type names and schedules also need the keys of a pseudorandom function (PRF): pass them with
// jobs.WithPRF. If you use a GroupAggregator, give [Config] and [Handler] the option [WithGroupClient] with an
// asynq.Client. If a task of a group does not open, this client enqueues it as a single task. So this task does not stop
// the others.
//
// Some parts of asynq write plaintext by themselves. For example, replace asynq.Scheduler by [Scheduler]. docs/jobs.md
// lists all replacements. The rest of asynq works as before: handlers get decrypted tasks, and return the same errors. New
// code can use typed jobs: see [Define].
//
// Do not change all processes of a running application in one step. A worker without this package cannot read a sealed task,
// and archives it, often at the first try. docs/rollout.md describes the steps. All workers need asynq 0.26 or newer,
// because older workers lose the payloads of unique tasks when they retry them.
//
// # Jobs that do not open
//
// If a payload was altered, or can never be opened for some other reason, asynq archives the task at once. [ReasonOf]
// returns the reason, for logs and diagnosis. If the key service does not answer, asynq retries the task. Give each task at
// least MaxRetry(1). The comment of [Config] gives the reason. docs/jobs.md lists all cases.
//
// # What an attacker can do
//
// A payload opens only under the type, queue and id of its task. If the task waits in a group of asynq, the group must also
// be the same. So an attacker with write access to Redis cannot give a task the payload of another task. The attacker cannot
// run a task under another type. The attacker can still do the following:
//
//   - delete and delay tasks
//   - enqueue an old task again, unchanged
//   - restore a schedule that was canceled or replaced
//   - read the names of queues and groups
//   - read the ids, times and sizes of tasks, and see which tasks with the option asynq.Unique have equal contents
//   - put a false error text on a task: the package must accept plaintext error texts, because asynq writes some itself
//
// [ReasonOf] and [OpenFailure] read the error text of a task. So use them for diagnosis only, not for decisions about
// security.
//
// All types and functions of this package are safe for concurrent use.
package asynqjobs
