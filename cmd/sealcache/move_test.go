package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// A run that is stopped since nothing opens says that nothing was written only where that is so.
func TestWhatWasWritten(t *testing.T) {
	t.Parallel()
	written := new(migrate.Report)
	written.Written = 9811
	dry := new(migrate.Report)
	dry.Written, dry.DryRun = 9811, true
	require.Equal(t, "Nothing was written.", describeWrites(migrate.Seal, new(migrate.Report)))
	require.Equal(t, "Nothing was written.", describeWrites(migrate.Seal, dry))
	for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal} {
		text := describeWrites(o, written)
		require.Contains(t, text, "sealed entries under these wrong keys: 9811.")
		require.Contains(t, text, `Run "sealcache unseal --allow-unproven" with the same keys, or delete these entries`)
	}
	require.Contains(t, describeWrites(migrate.Unseal, written), "written as plaintext: 9811.")
}
