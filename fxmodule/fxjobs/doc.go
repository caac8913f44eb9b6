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
// A process that only enqueues omits Worker. fxmodule always needs a cache: if the application has none, configure the cache
// "default" with the store memory:// and the keys of the jobs.
//
// Everything shares one client of the Redis that Config.Jobs.Redis names, or of the asynq.RedisConnOpt that the application
// provides. The client is opened when a constructor takes it. Redis must answer at start. At stop the client is closed after
// the worker and the scheduler, and before the keys. Closing *asynqjobs.Client or *asynq.Inspector is an error ("redis
// connection is shared").
//
// Handlers, the functions in an asynq.Config of the application (ErrorHandler, RetryDelayFunc, GroupAggregator...) and the
// admin page see decrypted tasks. An *asynq.Client of the application still enqueues plaintext: replace it with
// *asynqjobs.Client.
//
// [Monitor] adds the admin page. A program that does not call it links no web interface.
package fxjobs
