package steps

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, want := range []error{nil, broken} {
		var ran []string
		note := func(step string) func() { return func() { ran = append(ran, step) } }
		err := Run(func(s *Steps) {
			s.Cleanup(note("first cleanup"))
			s.Cleanup(note("second cleanup"))
			defer note("deferred")()
			s.Check(want)
			note("step")()
		})
		require.ErrorIs(t, err, want)
		if want == nil {
			require.Equal(t, []string{"step", "deferred", "second cleanup", "first cleanup"}, ran)
		} else {
			require.Equal(t, []string{"deferred", "second cleanup", "first cleanup"}, ran)
		}
	}
}
