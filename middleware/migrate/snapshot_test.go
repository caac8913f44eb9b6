package migrate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// A checkpoint is marshalled while the scan, which continues the tallies of an earlier run, counts.
func TestCheckpointBeforeTheScanSharesNoCounts(t *testing.T) {
	t.Parallel()
	m := &migration{walk: new(rediswalk.Walk[Counts]), exclude: new(rediswalk.Filter), present: new(present)}
	tally := Counts{OtherTypes: map[string]int64{"hash": 1}}
	m.before.Positions = map[string]rediswalk.Position[Counts]{"run": {Tally: tally}}
	c := m.snapshot()
	tally.other("hash", 1) // by the scan
	require.EqualValues(t, 1, c.Positions["run"].Tally.OtherTypes["hash"])
}
