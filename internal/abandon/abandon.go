// Package abandon calls code that may ignore its context, such as the client of a key service. Another example is code that reads
// a file on a mount that hangs.
//
// Begin with [Call]. It runs the code in a separate goroutine. If the context ends first, Call waits a short time longer, and
// then returns without an answer. The code continues in its goroutine.
package abandon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealcache/sealcache/internal/errtext"
)

// Grace is how long a call may continue after its context has ended. Code that respects its context can then report why it
// had not answered. After it, the call is abandoned.
const Grace = 100 * time.Millisecond

// Broken is the error of a call that panicked or called runtime.Goexit.
type Broken struct{ text string }

// Error names the callee, and the type of the value of a panic. The value itself is not shown, because it may hold a secret.
func (b *Broken) Error() string { return b.text }

// Answer is what a call returned.
type Answer[T any] struct {
	Out T
	Err error
}

// Call makes a call to callee, and waits for its answer as long as ctx allows and Grace longer. It calls release when the call
// has returned. ok is false if the call was abandoned.
//
// The call runs in a separate goroutine. Neither callers nor a Close wait for an abandoned call, and discard gets its answer. It
// keeps what release frees until it returns, so that the number of abandoned calls is bounded.
//
// A panic of the callee, or of a method of its error, would end the process, so it becomes a *Broken.
func Call[T any](ctx context.Context, callee string, release func(), discard func(T), call func() (T, error)) (a Answer[T], ok bool) {
	answers, abandoned := make(chan Answer[T]), make(chan struct{})
	go func() {
		a := Answer[T]{Err: &Broken{callee + " called runtime.Goexit"}}
		defer func() {
			if p := recover(); p != nil {
				a = Answer[T]{Err: &Broken{fmt.Sprintf("%s panicked with a value of type %T", callee, p)}}
			}
			release()
			select {
			case answers <- a:
			case <-abandoned:
				discard(a.Out)
			}
		}()
		a.Out, a.Err = call()
		if a.Err != nil { // the methods of a nil pointer panic
			_ = a.Err.Error()
			_ = errors.Is(a.Err, context.Canceled)
			a.Err = errtext.Guard(a.Err)
		}
	}()
	select {
	case a := <-answers:
		return a, true
	case <-ctx.Done():
	}
	grace := time.NewTimer(Grace)
	defer grace.Stop()
	select {
	case a := <-answers:
		return a, true
	case <-grace.C:
		close(abandoned)
		return Answer[T]{}, false
	}
}
