// Package fxjobs adds sealed (encrypted) background jobs to an application that is built with go.uber.org/fx. The jobs run
// on asynq, a job queue in Redis. Give [Module] and [Worker] to fx.New:
//
//	fx.New(
//		fx.Provide(fxmodule.ConfigFromEnv), // reads Config.Jobs, too
//		fxmodule.Module,                    // or fxmodule.Decorator
//		fxjobs.Module,                      // *asynqjobs.Client, *asynqjobs.Scheduler, *asynq.Inspector
//		fx.Provide(NewMux),                 // func NewMux(m *Mailer) *asynq.ServeMux, with the handlers
//		fxjobs.Worker,                      // runs the handlers; list it last
//	).Run()
//
// Omit [Worker] in a process that only enqueues jobs. To serve a web page that shows the queues
// and jobs, call [Monitor].
//
// Config.Jobs has no settings for encryption keys. Jobs are sealed with the keys of one cache in fxmodule.Config: the cache
// "default", or the cache whose name is in Config.Jobs.KeysOf. If an application has jobs but uses no cache, configure a
// cache "default" with the keys for the jobs and the Store memory://. This cache only provides the keys.
//
// # Redis
//
// All clients and workers of this package share one Redis client. The settings of the client come from Config.Jobs.Redis.
// If Config.Jobs.Redis is empty, the application must provide an asynq.RedisConnOpt. The application does not start if
// Redis does not answer. At stop, the package closes the client.
//
// Do not close *asynqjobs.Client or *asynq.Inspector: Close returns the error "redis connection is shared".
//
// # What is sealed
//
// *asynqjobs.Client enqueues sealed tasks. An *asynq.Client enqueues plaintext tasks, so replace it.
//
// Handlers and the web page of [Monitor] get decrypted tasks. So do the functions of the application's asynq.Config, such
// as ErrorHandler.
package fxjobs
