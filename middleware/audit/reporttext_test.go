package audit

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each noun agrees with its number.
func TestReportTextHasOneAndMany(t *testing.T) {
	t.Parallel()
	text := func(n int64, masters int, databases ...int) string {
		amount := Amount{Values: n}
		r := &Report{
			Masters: masters, Databases: databases, Seen: n, Restarts: masters, TagSets: n, OtherTypes: map[string]int64{"hash": n},
			Keys: []KeyUse{{Key: unnamedLabel, Amount: amount}}, KeyChecks: KeyChecks{Values: n},
			Jobs: JobTally{Tasks: amount, Bookkeeping: n, Unparsed: n}, NotRead: n, HiddenNames: HiddenNames{Amount: amount},
		}
		var b strings.Builder
		require.NoError(t, r.WriteText(&b))
		return b.String()
	}
	one, many := text(1, 1, 0), text(2, 3, 0, 7)
	for _, line := range []string{
		"NOT COMPLETE, 1 name in", "scope: database 0 on 1 master, all names", "restarted 1 time, because", "under a key without an id ", " 1 value (0 B)",
		"\n1 key check (named", "\n1 tag set of gocache", "\n1 entry of type hash, not examined\n", "jobs: 1 task, 1 bookkeeping entry, 1 entry in",
		"\n1 value under hidden names", "\n1 entry of jobs or migration records NOT READ",
	} {
		require.Contains(t, one, line)
	}
	for _, line := range []string{
		"NOT COMPLETE, 2 names in", "scope: databases 0, 7 on 3 masters, all names", "restarted 3 times, because", " 2 values (0 B)",
		"\n2 key checks (named", "\n2 tag sets of gocache", "\n2 entries of type hash, not examined\n", "jobs: 2 tasks, 2 bookkeeping entries, 2 entries in",
		"\n2 values under hidden names", "\n2 entries of jobs or migration records NOT READ",
	} {
		require.Contains(t, many, line)
	}
}
