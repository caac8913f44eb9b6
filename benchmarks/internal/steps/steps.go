// Package steps runs a function that ends at its first error, as a test ends at t.Fatal. Begin with [Run].
//
// The function does not return an error. It passes each error to [Steps.Check], which ends the function if the error is not
// nil. Run then returns this error. Only the goroutine that runs the function may call Check.
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
