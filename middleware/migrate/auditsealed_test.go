package migrate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/migrate"
)

func TestAnythingSealed(t *testing.T) {
	t.Parallel()
	amount := migrate.Amount{Values: 1, Bytes: 1}
	for name, c := range map[string]struct {
		report migrate.AuditReport
		want   migrate.Answer
	}{
		"no server":       {migrate.AuditReport{Complete: true}, migrate.Unknown},
		"no namespace":    {migrate.AuditReport{Complete: true, Namespaces: []string{"shop"}}, migrate.Unknown},
		"nothing":         {migrate.AuditReport{Complete: true, Seen: 1}, migrate.No},
		"clear":           {migrate.AuditReport{Complete: true, Seen: 1, Prefix: "shop:", Total: migrate.Tally{Clear: amount}}, migrate.No},
		"sealed":          {migrate.AuditReport{Complete: true, Total: migrate.Tally{Sealed: amount}}, migrate.Yes},
		"sealed, so far":  {migrate.AuditReport{Total: migrate.Tally{Sealed: amount}}, migrate.Yes},
		"foreign":         {migrate.AuditReport{Complete: true, Total: migrate.Tally{Foreign: amount}}, migrate.Yes},
		"jobs":            {migrate.AuditReport{Complete: true, Jobs: migrate.JobTally{Results: migrate.Tally{Sealed: amount}}}, migrate.Yes},
		"half":            {migrate.AuditReport{}, migrate.Unknown},
		"unwatched":       {migrate.AuditReport{Complete: true, Unwatched: true}, migrate.Unknown},
		"wrong prefix":    {migrate.AuditReport{Complete: true, Prefix: "shpo:"}, migrate.Unknown},
		"other databases": {migrate.AuditReport{Complete: true, Seen: 1, OtherDatabases: []int{1}}, migrate.Unknown},
		"one database":    {migrate.AuditReport{Complete: true, Seen: 1, OtherDatabases: []int{1}, OneDatabase: true}, migrate.No},
		"other types":     {migrate.AuditReport{Complete: true, Seen: 1, OtherTypes: map[string]int64{"hash": 1}}, migrate.Unknown},
		"ignored types":   {migrate.AuditReport{Complete: true, Seen: 1, OtherTypes: map[string]int64{"hash": 1}, IgnoredOtherTypes: true}, migrate.No},
		"strange jobs":    {migrate.AuditReport{Complete: true, Jobs: migrate.JobTally{Unparsed: 1}}, migrate.Unknown},
	} {
		answer, reasons := c.report.AnythingSealed()
		require.Equal(t, c.want, answer, name)
		require.Equal(t, c.want == migrate.No, len(reasons) == 0, name)
	}
}
