package errtext_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/errtext"
)

const secret = "hunter2"

// panicking is an error whose method Error panics with a secret.
type panicking struct{ cause error }

func (panicking) Error() string   { panic(secret) }
func (p panicking) Unwrap() error { return p.cause }

// formatting is an error whose method Format panics with a secret.
type formatting struct{}

func (formatting) Error() string          { return "a text" }
func (formatting) Format(fmt.State, rune) { panic(secret) }

// quoting is an error whose method Format quotes an error that panics.
type quoting struct{}

func (quoting) Error() string              { return "a text" }
func (quoting) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "a text: %v", panicking{}) }

func TestGuard(t *testing.T) {
	t.Parallel()
	var none *panicking
	for name, c := range map[string]struct {
		err  error
		text string
	}{
		"Error":   {panicking{io.EOF}, "error of type errtext_test.panicking: its method Error panicked"},
		"pointer": {none, "error of type *errtext_test.panicking: its method Error panicked"},
		"quoted":  {fmt.Errorf("read: %w", panicking{io.EOF}), "read: %!v(rest of the text not shown: a method of an error panicked)"},
		"joined":  {errors.Join(io.EOF, panicking{}), "error of type *errors.joinError: its method Error panicked"},
		"Format":  {formatting{}, "a text"},
		"quoting": {quoting{}, "a text"},
	} {
		guarded := errtext.Guard(c.err)
		require.Equal(t, c.text, errtext.Text(c.err), name)
		require.Equal(t, c.text, errtext.Text(guarded), name)
		require.NotContains(t, fmt.Sprintf("%v %+v %s %q", guarded, guarded, guarded, guarded), secret, name)
		require.NotContains(t, fmt.Errorf("wrapped: %w", guarded).Error(), secret, name)
		require.Same(t, guarded, errtext.Guard(guarded), name)
		if name != "pointer" {
			require.ErrorIs(t, guarded, c.err, name)
			require.Equal(t, errors.Is(c.err, io.EOF), errors.Is(guarded, io.EOF), name)
		}
	}
	var p panicking
	require.ErrorAs(t, errtext.Guard(panicking{io.EOF}), &p)
}

func TestGuardKeepsAnErrorThatDoesNotPanic(t *testing.T) {
	t.Parallel()
	require.NoError(t, errtext.Guard(nil))
	require.Empty(t, errtext.Text(nil))
	for _, err := range []error{io.EOF, fmt.Errorf("read: %w", io.EOF)} {
		require.Same(t, err, errtext.Guard(err))
		require.Equal(t, err.Error(), errtext.Text(err))
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	require.NoError(t, errtext.From("audit", nil))
	own := errors.New("audit: no entry")
	require.Same(t, own, errtext.From("audit", own))
	for text, err := range map[string]error{
		"audit: EOF":                 io.EOF,
		"audit: auditor: EOF":        fmt.Errorf("auditor: %w", io.EOF),
		"audit: migrate: audit: EOF": fmt.Errorf("migrate: audit: %w", io.EOF),
	} {
		require.EqualError(t, errtext.From("audit", err), text)
		require.ErrorIs(t, errtext.From("audit", err), io.EOF)
	}
	require.NotContains(t, errtext.From("audit", panicking{io.EOF}).Error(), secret)
}
