package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
)

// kekFile makes a plaintext keyset, and returns its path and its URI.
func kekFile(t *testing.T) (path, uri string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kek.json")
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path, "file://" + filepath.ToSlash(path)
}

// An operator finds the same statuses in the help and in the runbook.
func TestRunbookHasTheTableOfExitStatuses(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/rollout.md")
	require.NoError(t, err)
	runbook := strings.ReplaceAll(string(data), "`", "")
	_, help, _ := sealcache(t, "help")
	for _, m := range exitMeanings() {
		require.Contains(t, runbook, fmt.Sprintf("\n| %d | %s |\n", m.status, strings.Join(m.texts, " ")))
		for _, text := range m.texts {
			require.Contains(t, help, text)
		}
	}
}

// Scripts of operators rely on the statuses.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	_, kek := kekFile(t)
	require.NoError(t, rdb.Set(t.Context(), "shop:x", "{", 0).Err())
	for want, lines := range map[int][][]string{
		exitDone:   {{"help"}, {"migrate", "-h"}, {"migrate", "--redis", "redis://" + server.Addr() + "/7", "--kek", kek, "--all", "--allow-unproven"}},
		exitFailed: {{"migrate", "--redis", "redis://127.0.0.1:1?max_retries=0", "--kek", kek, "--all"}},
		exitUsage:  {{}, {"nonsense"}, {"audit"}, {"audit", "--nonsense"}, {"audit", "--redis", "http://x", "--all"}, {"keys"}, {"man"}},
		exitLeft: {
			{"audit", "--redis", server.URL(), "--all"},
			{"migrate", "--redis", server.URL(), "--kek", kek, "--prefix", "none:", "--allow-unproven"},
			{"migrate", "--redis", server.URL(), "--kek", kek, "--namespace", "shop", "--as", "json", "--allow-unproven"},
			{"inspect", "--redis", server.URL(), "absent"},
			{"get", "--redis", server.URL(), "--kek", kek, "--reason", "test", "absent"},
			{"get", "--redis", server.URL(), "--kek", kek, "--reason", "test", "shop:x"},
			{"plan", "--redis", server.URL(), "--prefix", "shop:", "--exclude", "shop:none"},
			{"evidence", "--check", "--kek", kek},
		},
		exitUnknown: {{"audit", "--redis", server.URL(), "--may-destroy", "1"}},
	} {
		for _, args := range lines {
			status, out, log := sealcache(t, args...)
			require.Equal(t, want, status, "%q\n%s%s", args, out, log)
		}
	}
}

// Every configuration that cannot work is status 2, and an operator sees it in one line.
func TestWrongConfigurationIsStatus2(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "app", Password: "secret"})
	plain := redistest.Start(t)
	rdb := redis.NewClient(plain.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	require.NoError(t, rdb.Set(t.Context(), "shop:x", "plaintext", 0).Err())
	keyset, kek := kekFile(t)
	_, otherKEK := kekFile(t)
	dir := t.TempDir()
	sealed, exists, garbage, short := filepath.Join(dir, "sealed.json"), filepath.Join(dir, "exists"), filepath.Join(dir, "garbage"), filepath.Join(dir, "short")
	for _, path := range []string{exists, garbage} {
		require.NoError(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	}
	require.NoError(t, os.WriteFile(short, []byte("short"), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	status, _, log := sealcache(t, "keys", "create", "--kek", kek, "--out", sealed)
	require.Equal(t, exitDone, status, log)
	absent := filepath.Join(dir, "absent")
	node := "redis://" + redistest.StartCluster(t).ClientOptions().Addrs[0]
	key := ids(t, keyset)[0]

	for name, args := range map[string][]string{
		"unset passphrase":              {"keys", "list", "--kek", "passphrase:env:SEALCACHE_TEST_UNSET", "--keyset", sealed},
		"no passphrase file":            {"keys", "list", "--kek", "passphrase:file:" + absent, "--keyset", sealed},
		"short passphrase":              {"keys", "list", "--kek", "passphrase:file:" + short, "--keyset", sealed},
		"no KEK file":                   {"keys", "create", "--kek", "file://" + absent, "--out", absent},
		"no KEK file, list":             {"keys", "list", "--kek", "file://" + absent},
		"no KEK file, migrate":          {"migrate", "--redis", plain.URL(), "--kek", "file://" + absent, "--all"},
		"garbage as KEK":                {"keys", "list", "--kek", "file://" + garbage, "--keyset", sealed},
		"unknown KEK scheme":            {"keys", "list", "--kek", "vault:x", "--keyset", sealed},
		"no KEK scheme":                 {"keys", "list", "--kek", "x", "--keyset", sealed},
		"no keyset":                     {"keys", "list", "--kek", kek, "--keyset", absent},
		"no keyset, change":             {"keys", "add", "--kek", kek, "--keyset", absent},
		"no keyset, get":                {"get", "--redis", plain.URL(), "--kek", kek, "--keyset", absent, "--reason", "r", "x"},
		"empty keyset":                  {"keys", "add", "--kek", kek, "--keyset", empty},
		"garbage as keyset":             {"keys", "promote", "--kek", kek, "--keyset", garbage, key},
		"a directory as keyset":         {"keys", "add", "--kek", kek, "--keyset", dir},
		"unset keyset variable":         {"keys", "list", "--kek", kek, "--keyset", "env:SEALCACHE_TEST_UNSET"},
		"a keyset variable to change":   {"keys", "add", "--kek", kek, "--keyset", "env:KEYSET"},
		"another KEK":                   {"keys", "list", "--kek", otherKEK, "--keyset", sealed},
		"another KEK, rewrap":           {"keys", "rewrap", "--kek", otherKEK, "--keyset", sealed},
		"another KEK, audit":            {"audit", "--redis", plain.URL(), "--all", "--open", "--kek", otherKEK, "--keyset", sealed},
		"no KEK to rewrap to":           {"keys", "rewrap", "--kek", kek, "--keyset", sealed, "--to-kek", "file://" + absent},
		"no old KEK":                    {"reseal", "--redis", plain.URL(), "--all", "--kek", kek, "--old-kek", "file://" + absent},
		"an old keyset without a KEK":   {"reseal", "--redis", plain.URL(), "--all", "--kek", kek, "--old-keyset", sealed},
		"a keyring without a keyset":    {"migrate", "--redis", plain.URL(), "--all", "--kek", "passphrase:file:" + keyset, "--keys-as", "keyring"},
		"unknown key, promote":          {"keys", "promote", "--kek", kek, "--keyset", sealed, "1"},
		"unknown key, disable":          {"keys", "disable", "--kek", kek, "--keyset", sealed, "1"},
		"unknown key, enable":           {"keys", "enable", "--kek", kek, "--keyset", sealed, "1"},
		"unknown key, destroy":          {"keys", "destroy", "--kek", kek, "--keyset", sealed, "--yes", "1"},
		"unknown key, audit":            {"audit", "--redis", plain.URL(), "--kek", kek, "--may-destroy", "1"},
		"no number of a key":            {"keys", "promote", "--kek", kek, "--keyset", sealed, "x"},
		"the primary key, disable":      {"keys", "disable", "--kek", kek, key},
		"the primary key, destroy":      {"keys", "destroy", "--kek", kek, "--yes", key},
		"an output that exists":         {"keys", "create", "--kek", kek, "--out", exists},
		"an output in no directory":     {"keys", "create", "--kek", kek, "--out", filepath.Join(absent, "x")},
		"an output that is a directory": {"keys", "create", "--kek", kek, "--out", dir},
		"a report in no directory":      {"audit", "--redis", plain.URL(), "--all", "--report", filepath.Join(absent, "x")},
		"a checkpoint in no directory":  {"migrate", "--redis", plain.URL(), "--all", "--kek", kek, "--checkpoint", filepath.Join(absent, "x")},
		"garbage as checkpoint":         {"migrate", "--redis", plain.URL(), "--all", "--kek", kek, "--checkpoint", garbage},
		"a record in no directory":      {"get", "--redis", plain.URL(), "--kek", kek, "--reason", "r", "--record", filepath.Join(absent, "x"), "shop:x"},
		"a URL of nothing":              {"inspect", "--redis", "x", "x"},
		"an unknown option of the URL":  {"inspect", "--redis", plain.URL() + "?nonsense=1", "x"},
		"no password file":              {"inspect", "--redis", plain.URL() + "?password_file=" + absent, "x"},
		"no password":                   {"inspect", "--redis", "redis://" + server.Addr(), "x"},
		"a wrong password":              {"inspect", "--redis", "redis://app:wrong@" + server.Addr(), "x"},
		"a database that is not there":  {"inspect", "--redis", "redis://" + plain.Addr() + "/99", "x"},
		"a namespace that cannot be":    {"migrate", "--redis", plain.URL(), "--kek", kek, "--namespace", "a b"},
		"a negative rate":               {"migrate", "--redis", plain.URL(), "--kek", kek, "--all", "--rate", "-1"},
		"nothing that proves the keys":  {"migrate", "--redis", plain.URL(), "--kek", kek, "--all"},
		"a proof that is plaintext":     {"migrate", "--redis", plain.URL(), "--kek", kek, "--namespace", "shop", "--proof", "x"},
		"a filter that cannot match":    {"audit", "--redis", plain.URL(), "--prefix", "shop:", "--exclude", "user:"},
		"a filter of everything":        {"audit", "--redis", plain.URL(), "--prefix", "shop:x", "--exclude", "shop:"},
		"a node of a Cluster":           {"audit", "--redis", node, "--all"},
		"a node of a Cluster, migrate":  {"migrate", "--redis", node, "--kek", kek, "--all", "--allow-unproven"},
		"a time that is none":           {"audit", "--redis", plain.URL(), "--may-destroy", "1", "--not-primary-since", "yesterday"},
		"an audit that is not there":    {"keys", "destroy", "--kek", kek, "--keyset", sealed, "--audited", absent, ids(t, sealed)[0]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, out, log := sealcache(t, args...)
			require.Equal(t, exitUsage, status, "%q\n%s%s", args, out, log)
			require.Empty(t, out)
			require.NotContains(t, log, "secret")
		})
	}
	require.NoFileExists(t, absent)
	require.Equal(t, "plaintext", rdb.Get(t.Context(), "shop:x").Val())
}

// A server, a file or a key service that is away is a failure, which another attempt may not have.
func TestOutageIsStatus1(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	for _, args := range [][]string{
		{"inspect", "--redis", "redis://127.0.0.1:1?max_retries=0", "x"},
		{"audit", "--redis", "redis+cluster://127.0.0.1:1?max_retries=0", "--all"},
		{"get", "--redis", "redis://127.0.0.1:1?max_retries=0", "--kek", kek, "--reason", "r", "x"},
	} {
		status, out, log := sealcache(t, args...)
		require.Equal(t, exitFailed, status, "%q\n%s%s", args, out, log)
		require.Contains(t, log, "redis does not answer")
	}
}
