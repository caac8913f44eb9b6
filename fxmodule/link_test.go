package fxmodule_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that imports fxmodule alone does not link asynq, whose package initialization panics in FIPS-only mode.
func TestNoAsynqWithoutFxjobs(t *testing.T) {
	t.Parallel()
	deps := func(pkg string) string {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		require.NoError(t, err)
		return string(out)
	}
	for _, pkg := range []string{".", "./testdata/cache"} {
		for _, dep := range strings.Fields(deps(pkg)) {
			require.False(t, strings.HasPrefix(dep, "github.com/hibiken/"), dep)
			require.NotContains(t, dep, "asynqjobs", pkg)
		}
	}
	require.Contains(t, deps("./fxjobs"), "github.com/hibiken/asynq\n", "the search finds asynq where it is linked")
}
