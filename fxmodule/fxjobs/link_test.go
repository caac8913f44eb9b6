package fxjobs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that does not call Monitor links no web interface, although fxjobs imports it, because no code that is
// always linked calls Monitor.
func TestNoWebInterfaceWithoutMonitor(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]bool{"../../examples/jobs": true, "./testdata/worker": false} {
		binary := filepath.Join(t.TempDir(), "program")
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, program).CombinedOutput()
		require.NoError(t, err, string(out))
		b, err := os.ReadFile(binary)
		require.NoError(t, err)
		require.Equal(t, want, bytes.Contains(b, []byte("<title>Asynq - Monitoring</title>")), program)
	}
}
