package fxmodule

import (
	"log/slog"
	"regexp"
)

// hint follows an error of fx that says what is missing and cannot say why. fx calls it when a function that the
// application invokes, or something below it, could not be built.
type hint struct{}

// HandleError logs to the process's default logger: the application's own is in a graph that could not be built.
func (hint) HandleError(err error) {
	if lacksMux(err) {
		slog.Default().Error("sealcache: fx misses an *asynq.ServeMux, the handlers of the application's jobs, which the server and the asynq.Handler that fxmodule.Module provides are made of: fx.Provide it, or asynq.NewServeMux and the handlers as fxmodule.Handlers in the group \"jobs\"")
	}
	if lacksStore(err) {
		slog.Default().Error("sealcache: fx misses a store.StoreInterface. In an fx.Module nobody finds the default cache unless somebody provides a store.StoreInterface for it to replace: list fxmodule.ProvideDefault beside fxmodule.Module. A Config without a cache named \"default\" has no unnamed store at all")
	}
}

func lacksMux(err error) bool {
	return regexp.MustCompile(`missing types?:[^\n]*\*asynq\.ServeMux`).MatchString(err.Error())
}

func lacksStore(err error) bool {
	return regexp.MustCompile(`missing types?:[^\n]*\bstore\.StoreInterface([^\[\w]|$)`).MatchString(err.Error())
}
