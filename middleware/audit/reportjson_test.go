package audit_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// The JSON form of a report tells names apart that differ in one invalid byte, and the fields keep the names.
func TestNamesInReportAsJSON(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	all := []string{"\"\\xff\"", "\"a", "a\xfe", "a\xff", "plain"}
	var excluded, others []string
	for _, name := range all {
		require.NoError(t, rdb.Set(t.Context(), name, "v", 0).Err())
		excluded, others = append(excluded, name+":e"), append(others, name+":o")
	}
	r := audited(t, rdb, audit.Config{GroupBy: all, Exclude: excluded, OtherApplications: others, Samples: 10})
	for _, v := range []any{r, *r} {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal(data, &m))
		require.ElementsMatch(t, excluded, migratetest.ReportedNames(t, m["exclude"]))
		require.ElementsMatch(t, others, migratetest.ReportedNames(t, m["other_applications"]))
		require.ElementsMatch(t, excluded, migratetest.ReportedNames(t, m["unmatched_excludes"]))
		require.ElementsMatch(t, others, migratetest.ReportedNames(t, m["unmatched_applications"]))
		require.ElementsMatch(t, all, migratetest.ReportedNames(t, m["samples"].(map[string]any)["plaintext"]))
		var groups []string
		for _, g := range m["groups"].([]any) {
			groups = append(groups, migratetest.ReportedName(t, g.(map[string]any)["prefix"]))
		}
		require.ElementsMatch(t, all, groups)
	}
	require.ElementsMatch(t, all, r.Samples["plaintext"])
	require.True(t, slices.ContainsFunc(r.Groups, func(g audit.Group) bool { return g.Prefix == "a\xff" }))
	for _, prefix := range all {
		r = audited(t, rdb, audit.Config{Prefix: prefix})
		data, err := json.Marshal(r)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal(data, &m))
		require.Equal(t, prefix, migratetest.ReportedName(t, m["prefix"]))
		require.Equal(t, prefix, r.Prefix)
	}
}
