// Command cache is an fx application that uses every value that fxmodule provides. A test builds it to check which packages
// it links. The test does not run it.
package main

import (
	"github.com/eko/gocache/lib/v4/store"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func main() {
	fx.New(
		fx.Provide(fxmodule.ConfigFromEnv),
		fxmodule.Module,
		fx.Invoke(func(store.StoreInterface, *jobs.Encryptor, *fxmodule.Health) {}),
	).Run()
}
