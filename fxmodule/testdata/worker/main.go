// Command worker has all of jobs but the admin page. It is built for a test, and not run.
package main

import (
	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func main() {
	fx.New(
		fx.Provide(fxmodule.ConfigFromEnv, asynq.NewServeMux),
		fx.Invoke(func(*asynqjobs.Client, *asynqjobs.Scheduler, *asynq.Inspector) {}),
		fxmodule.Module,
	).Run()
}
