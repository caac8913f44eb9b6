package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
)

// JSON reports tell names apart that differ in one invalid byte, and commands read such a report.
func TestNamesInJSONReports(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	_, kek := kekFile(t)
	dir := t.TempDir()
	report := func(want int, args ...string) (m map[string]any) {
		t.Helper()
		status, out, log := sealcache(t, append(args, "--redis", server.URL(), "--json")...)
		require.Equal(t, want, status, log)
		require.NoError(t, json.Unmarshal([]byte(out), &m))
		return m
	}
	all := []string{"\"\\xff\"", "\"a", "a\xfe", "a\xff", "plain"}
	for _, name := range all {
		require.NoError(t, rdb.Set(t.Context(), name, "v", 0).Err())
		require.Equal(t, name, migratetest.ReportedName(t, report(exitDone, "inspect", name)["name"]))
		m := report(exitDone, "get", "--kek", kek, "--reason", "r", "--record", filepath.Join(dir, "record"), "--plaintext", name)
		require.Equal(t, name, migratetest.ReportedName(t, m["name"]))
		m = report(exitLeft, "audit", "--all", "--one-database", "--exclude", name+":none", "--other-applications", name+":other")
		require.Equal(t, []string{name + ":none"}, migratetest.ReportedNames(t, m["unmatched_excludes"]))
		require.Equal(t, []string{name + ":other"}, migratetest.ReportedNames(t, m["other_applications"]))
		m = report(exitLeft, "plan", "--prefix", name, "--exclude", name+":none")
		require.Equal(t, name, migratetest.ReportedName(t, m["from"]))
		m = report(exitLeft, "migrate", "--kek", kek, "--prefix", name, "--exclude", name+":none", "--dry-run", "--allow-unproven")
		require.Equal(t, name, migratetest.ReportedName(t, m["from"]))
		require.Equal(t, []string{name + ":none"}, migratetest.ReportedNames(t, m["unmatched_excludes"]))
	}
	file := filepath.Join(dir, "audit.json")
	m := report(exitLeft, "audit", "--prefix", "a\xff", "--group-by", "a\xff", "--samples", "5", "--report", file)
	require.Equal(t, []string{"a\xff"}, migratetest.ReportedNames(t, m["samples"].(map[string]any)["plaintext"]))
	require.Equal(t, "a\xff", migratetest.ReportedName(t, m["groups"].([]any)[0].(map[string]any)["prefix"]))

	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, new(auditFile).parse(data))
	status, out, log := sealcache(t, "evidence", "--kek", kek, "--audit", file, "--json")
	require.Equal(t, exitDone, status, log)
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	scope := m["audits"].([]any)[0].(map[string]any)["scope"].(string)
	require.Contains(t, scope, `names that start with "a\xff"`)
}
