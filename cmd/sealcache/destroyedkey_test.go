//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
)

// run runs a keys command that must succeed, and returns what it printed.
func (r *rotating) run(t *testing.T, args ...string) string {
	t.Helper()
	status, out, log := sealcache(t, r.args(args...)...)
	require.Equal(t, exitDone, status, log)
	return out
}

// A key that is disabled or destroyed stops opening at the next reload, although readers hold its data keys. Values under the other
// key go on opening.
func TestTakenKeyStopsOpeningUnderLoad(t *testing.T) {
	t.Parallel()
	for name, take := range map[string][]string{"disable": {"disable"}, "destroy": {"destroy", "--yes"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotating(t)
			old := ids(t, r.file)[0]
			kek, done, err := openKEK(t.Context(), r.kek)
			require.NoError(t, err)
			defer done()
			ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(r.file), kek)
			require.NoError(t, err)
			defer ring.Close()
			envelope, err := aead.NewEnvelope(t.Context(), ring)
			require.NoError(t, err)
			defer envelope.Close()
			seal := func() []byte {
				sealed, err := envelope.EncryptWithContext(t.Context(), []byte("value"), nil)
				require.NoError(t, err)
				return sealed
			}
			before := seal()
			r.run(t, "add")
			next := ids(t, r.file)[1]
			r.run(t, "promote", next)
			require.NoError(t, ring.Reload(t.Context()))
			after := seal()

			var reloaded atomic.Bool
			var opened, refused atomic.Int64
			var readers sync.WaitGroup
			end := make(chan struct{})
			fail := make(chan error, 8)
			for range 8 {
				readers.Go(func() {
					for {
						select {
						case <-end:
							return
						default:
						}
						gone := reloaded.Load()
						_, err := envelope.DecryptWithContext(t.Context(), before, nil)
						_, errNew := envelope.DecryptWithContext(t.Context(), after, nil)
						switch {
						case errNew != nil:
							fail <- errNew
							return
						case gone && err == nil:
							fail <- errors.New("a value opened under a key that is gone")
							return
						case err == nil:
							opened.Add(1)
						case !errors.Is(err, aead.ErrUnknownKey):
							fail <- err
							return
						case gone:
							refused.Add(1)
						}
					}
				})
			}
			reach := func(n *atomic.Int64) {
				require.Eventually(t, func() bool { return n.Load() > 1000 || len(fail) > 0 }, time.Minute, time.Millisecond)
			}
			reach(&opened)
			r.run(t, append(take, old)...)
			require.NoError(t, ring.Reload(t.Context()))
			reloaded.Store(true)
			reach(&refused)
			close(end)
			readers.Wait()
			close(fail)
			require.NoError(t, <-fail)
		})
	}
}

// The certificate says which key was destroyed, when, by which audit, and in which file. It holds no key.
func TestDestructionCertificate(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRotating(t)
	old := ids(t, r.file)[0]
	r.run(t, "add")
	r.run(t, "promote", ids(t, r.file)[1])
	r.run(t, "disable", old)
	client := redis.NewClient(server.ClientOptions())
	defer client.Close()
	require.NoError(t, client.Set(t.Context(), "shop:a", "alice", 0).Err())
	status, _, log := sealcache(t, "migrate", "--redis", server.URL(), "--kek", r.kek, "--keyset", r.file, "--namespace", "shop", "--allow-unproven")
	require.Equal(t, exitDone, status, log)
	report := filepath.Join(t.TempDir(), "audit.json")
	status, _, log = sealcache(t, "audit", "--redis", server.URL(), "--kek", r.kek, "--keyset", r.file, "--may-destroy", old,
		"--not-primary-since", "2020-01-01T00:00:00Z", "--reload", "1ns", "--report", report)
	require.Equal(t, exitDone, status, log)
	before, began := sha256Of(r.file), time.Now().Add(-time.Second)

	// A report of another release may say more than this release understands.
	data, err := os.ReadFile(report)
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(other, bytes.Replace(data, []byte("{"), []byte(`{"only_if": "no",`), 1), 0o600))
	status, _, log = sealcache(t, "keys", "destroy", "--kek", r.kek, "--keyset", r.file, "--audited", other, old)
	require.Equal(t, exitUsage, status)
	require.Contains(t, log, "--audited: the file is not a report")

	out := r.run(t, "destroy", "--audited", report, old, "--json")
	var c certificate
	require.NoError(t, json.Unmarshal([]byte(out), &c))
	require.Equal(t, schema, c.Schema)
	require.Equal(t, "keys destroy", c.Command)
	require.Equal(t, r.file, c.File)
	require.Equal(t, old, fmt.Sprint(c.Destroyed.ID))
	require.Equal(t, "AesGcmKey", c.Destroyed.Type)
	require.Equal(t, statusDisabled, c.Destroyed.Status)
	times := c.Destroyed.Times
	for _, at := range []time.Time{times.Created, times.Promoted, times.Demoted, times.Disabled} {
		require.False(t, at.IsZero(), out)
	}
	require.WithinRange(t, c.At, began, time.Now().Add(time.Second))
	require.Equal(t, before, c.Before)
	require.Equal(t, sha256Of(r.file), c.After)
	require.NotEqual(t, c.Before, c.After)
	require.Len(t, c.Keyset, 1)
	require.NotEqual(t, c.Destroyed.ID, c.Keyset[0].ID)
	require.NotNil(t, c.Audit)
	require.Equal(t, sha256Of(report), c.Audit.SHA256)
	require.Equal(t, "yes", c.Audit.Answer)
	require.NotEmpty(t, c.Audit.Scope)
	require.Contains(t, c.NotBound, "backups")
	data, err = os.ReadFile(r.file)
	require.NoError(t, err)
	var sealedKeyset struct {
		Encrypted string `json:"encryptedKeyset"`
	}
	require.NoError(t, json.Unmarshal(data, &sealedKeyset))
	require.NotEmpty(t, sealedKeyset.Encrypted)
	require.False(t, strings.Contains(out, sealedKeyset.Encrypted))

	// A key that is destroyed without an audit says so.
	r.run(t, "add")
	unaudited := r.run(t, "destroy", "--yes", ids(t, r.file)[1])
	require.Contains(t, unaudited, `"audit": null`)
}

// The report of an audit does not allow to destroy a key that was enabled, and perhaps primary, since then. The digest of a
// sealed keyset shows that. Under a plaintext keyset the key times do.
func TestDestroyRefusesAReportBeforeAnotherUse(t *testing.T) {
	t.Parallel()
	sealedUnder := newRotating(t)
	path, plain := kekFile(t)
	for name, keys := range map[string][]string{
		"sealed keyset":    {"--kek", sealedUnder.kek, "--keyset", sealedUnder.file},
		"plaintext keyset": {"--kek", plain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			file := path
			if len(keys) > 2 {
				file = sealedUnder.file
			}
			do := func(want int, args ...string) string {
				t.Helper()
				status, _, log := sealcache(t, append(args, keys...)...)
				require.Equal(t, want, status, log)
				return log
			}
			rdb := redis.NewClient(server.ClientOptions())
			defer rdb.Close()
			old := ids(t, file)[0]
			do(exitDone, "keys", "add")
			next := ids(t, file)[1]
			do(exitDone, "keys", "promote", next)
			do(exitDone, "keys", "disable", old)
			require.NoError(t, rdb.Set(t.Context(), "shop:a", "alice", 0).Err())
			do(exitDone, "migrate", "--redis", server.URL(), "--namespace", "shop", "--allow-unproven")
			report := filepath.Join(t.TempDir(), "audit.json")
			audit := []string{"audit", "--redis", server.URL(), "--may-destroy", old, "--not-primary-since", "2020-01-01T00:00:00Z", "--reload", "1ns", "--report", report}
			do(exitDone, audit...)
			changed := time.Now().Truncate(time.Second)
			require.Eventually(t, func() bool { return time.Now().After(changed.Add(time.Second)) }, 2*time.Minute, 10*time.Millisecond)
			do(exitDone, "keys", "enable", old)
			do(exitDone, "keys", "promote", old)
			do(exitDone, "keys", "promote", next)
			do(exitDone, "keys", "disable", old)
			require.Contains(t, do(exitUsage, "keys", "destroy", "--audited", report, old), "audit again")
			if file == path { // a file in plaintext has no digest, so only the times tell
				require.NoError(t, os.Remove(file+".times"))
				do(exitDone, audit...)
				require.Contains(t, do(exitUsage, "keys", "destroy", "--audited", report, old), "nothing shows when")
				do(exitDone, "keys", "enable", old)
				do(exitDone, "keys", "disable", old)
			}
			do(exitDone, audit...)
			do(exitDone, "keys", "destroy", "--audited", report, old)
		})
	}
}
