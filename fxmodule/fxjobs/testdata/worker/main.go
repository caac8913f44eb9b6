// Command worker uses every part of fxjobs except the admin page. A test builds it, to prove that such a program does
// not contain the packages of the admin page. The test does not run it.
package main

import (
	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func main() {
	fx.New(
		fx.Provide(fxmodule.ConfigFromEnv, asynq.NewServeMux),
		fx.Invoke(func(*asynqjobs.Client, *asynqjobs.Scheduler, *asynq.Inspector) {}),
		fxmodule.Module,
		fxjobs.Module,
		fxjobs.Worker,
	).Run()
}
