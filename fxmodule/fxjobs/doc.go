// Package fxjobs adds sealed background jobs on asynq to an application that is built with go.uber.org/fx.
//
//	fx.New(
//		fx.Provide(fxmodule.ConfigFromEnv), // its section Jobs
//		fxmodule.Module,                    // or fxmodule.Decorator
//		fxjobs.Module,                      // *asynqjobs.Client, *asynqjobs.Scheduler, *asynq.Inspector
//		fx.Provide(NewMux),                 // func NewMux(m *Mailer) *asynq.ServeMux, with the handlers
//		fxjobs.Worker,                      // runs them; list it last
//	).Run()
//
// Omit Worker in a process that only enqueues. Package fxmodule always needs a cache. If the application has no cache, configure
// the cache "default" with the store memory:// and the keys of the jobs.
//
// Client, scheduler, inspector, worker and admin page share one Redis client. Its settings come from Config.Jobs.Redis, or from the
// asynq.RedisConnOpt of the application. The package makes the Redis client when a constructor first needs it. The start fails if
// Redis does not answer. At stop, the package closes the Redis client after the worker and the scheduler, and before the keys.
//
// Do not close *asynqjobs.Client or *asynq.Inspector. Close returns the error "redis connection is shared".
//
// Decrypted tasks reach the handlers, the admin page, and the functions of the application's asynq.Config, such as ErrorHandler. An
// *asynq.Client of the application still enqueues plaintext: replace it with *asynqjobs.Client.
//
// [Monitor] adds the admin page. A program that does not call Monitor contains no web interface.
package fxjobs
