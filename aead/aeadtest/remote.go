package aeadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// Remote is the key-encryption key of a key service that a test can break. Each function breaks the service in one way until
// Heal is called; a nil one skips its rule.
type Remote struct {
	// KEK is under test. RunRemote does not close it.
	KEK tink.AEADWithContext
	// Stop makes the service unreachable.
	Stop func()
	// Hang makes the service accept calls and never answer.
	Hang func()
	// Throttle makes the service turn calls away because there are too many.
	Throttle func()
	// Deny takes the permissions of the KEK away.
	Deny func()
	// Fail makes the service answer with an internal error.
	Fail func()
	// Heal makes the service work again, with the same keys.
	Heal func()
	// Secrets are credentials that no error and no formatted KEK may show.
	Secrets []string
}

// hangLimit is the deadline of calls to a service that hangs, and callLimit of others: some clients repeat a call until its
// deadline. patience is how long any call may take, and healLimit how long a client may take to connect again.
const (
	hangLimit = 100 * time.Millisecond
	callLimit = 3 * time.Second
	patience  = 8 * time.Second
	healLimit = time.Minute
)

// RunRemote checks the KEK of a key service while the service is broken, one subtest for each fault. A fault must be an
// outage: neither aead.ErrUnauthentic nor aead.ErrUnknownKey. The deadline of a call must reach the service. After the fault,
// the KEK works again, without being opened again. No error shows a credential.
//
// It calls newRemote for each subtest. newRemote returns a fresh service and KEK, and closes both with t.Cleanup.
func RunRemote(t *testing.T, newRemote func(t *testing.T) Remote) {
	t.Helper()
	for _, f := range []struct {
		name, field string
		of          func(Remote) func()
	}{
		{"Stopped", "Stop", func(r Remote) func() { return r.Stop }},
		{"Hanging", "Hang", func(r Remote) func() { return r.Hang }},
		{"Throttled", "Throttle", func(r Remote) func() { return r.Throttle }},
		{"Denied", "Deny", func(r Remote) func() { return r.Deny }},
		{"Failing", "Fail", func(r Remote) func() { return r.Fail }},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRemote(t)
			if f.of(r) == nil {
				t.Skipf("Remote.%s is nil, so the test cannot cause this fault", f.field)
			}
			r.check(t, f.of(r), f.name == "Hanging")
		})
	}
}

func (r Remote) check(t *testing.T, breakIt func(), hangs bool) {
	t.Helper()
	sealed, err := r.KEK.EncryptWithContext(t.Context(), []byte("a data key"), []byte("ad"))
	if err != nil {
		t.Fatalf("EncryptWithContext failed before the outage: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		r.showsNothing(t, "the KEK", fmt.Sprintf(verb, r.KEK))
	}
	breakIt()
	limit := callLimit
	if hangs {
		limit = hangLimit
	}
	for name, call := range map[string]func(context.Context) ([]byte, error){
		"EncryptWithContext": func(ctx context.Context) ([]byte, error) {
			return r.KEK.EncryptWithContext(ctx, []byte("a data key"), []byte("ad"))
		},
		"DecryptWithContext": func(ctx context.Context) ([]byte, error) {
			return r.KEK.DecryptWithContext(ctx, sealed, []byte("ad"))
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		out, err := answerOf(ctx, call)
		cancel()
		switch {
		case errors.Is(err, errStillRunning):
			t.Fatalf("%s was still running %v after the deadline of its context, want an error at the deadline", name, patience)
		case err == nil:
			t.Errorf("%s during the outage returned no error, want one", name)
			continue
		case out != nil:
			t.Errorf("%s during the outage returned a slice of %d bytes beside its error, want nil", name, len(out))
			continue
		case errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey):
			t.Errorf("%s during the outage returned error %q\n(want one that wraps neither aead.ErrUnauthentic nor aead.ErrUnknownKey)", name, err)
		case hangs && !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("%s during the outage returned error %q\n(want one that wraps context.DeadlineExceeded)", name, err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			r.showsNothing(t, "the error of "+name, fmt.Sprintf(verb, err))
		}
	}
	r.Heal()
	ctx, cancel := context.WithTimeout(t.Context(), healLimit)
	defer cancel()
	for {
		opened, err := r.KEK.DecryptWithContext(ctx, sealed, []byte("ad"))
		if err == nil {
			if !bytes.Equal(opened, []byte("a data key")) {
				t.Errorf("DecryptWithContext returned other bytes after the outage than were encrypted before it")
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("DecryptWithContext still failed a minute after the end of the outage: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r Remote) showsNothing(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range r.Secrets {
		if secret == "" {
			t.Fatal("a string in Remote.Secrets is empty, want only credentials")
		}
		if strings.Contains(text, secret) {
			t.Errorf("the printed text of %s contains a credential: %s", what, text)
		}
	}
}

var errStillRunning = errors.New("aeadtest: the call to the key-encryption key is still running after the deadline of its context")

// answerOf waits for a call until the deadline of its context, and some more.
func answerOf(ctx context.Context, call func(context.Context) ([]byte, error)) ([]byte, error) {
	type answer struct {
		out []byte
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := call(ctx)
		answers <- answer{out, err}
	}()
	deadline, _ := ctx.Deadline()
	select {
	case a := <-answers:
		return a.out, a.err
	case <-time.After(time.Until(deadline) + patience):
		return nil, errStillRunning
	}
}
