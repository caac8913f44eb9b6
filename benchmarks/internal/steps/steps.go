// Package steps runs a function whose steps end it at their first error, as the steps of a test do: see [Run].
package steps

import (
	"runtime"
	"slices"
	"sync"
)

// Steps is a running function. Only the goroutine that runs the function may call its methods.
type Steps struct {
	err      error
	cleanups []func()
}

// Run calls f in a goroutine and waits for its end. It returns the error that ended f, or nil.
func Run(f func(s *Steps)) error {
	s := new(Steps)
	var running sync.WaitGroup
	running.Go(func() {
		defer func() {
			for _, cleanup := range slices.Backward(s.cleanups) {
				cleanup()
			}
		}()
		f(s)
	})
	running.Wait()
	return s.err
}

// Check ends the function with err, unless err is nil. It works as FailNow of package testing does: deferred calls and cleanups run.
func (s *Steps) Check(err error) {
	if err != nil {
		s.err = err
		runtime.Goexit()
	}
}

// Cleanup calls f when the function has ended. The f of the last call runs first.
func (s *Steps) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
