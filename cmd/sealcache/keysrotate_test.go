//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// rotating is a keyset that "keys rotate" works on.
type rotating struct {
	kek, file string
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	_, kek := kekFile(t)
	r := &rotating{kek, filepath.Join(t.TempDir(), "keyset.json")}
	status, _, log := sealcache(t, "keys", "create", "--kek", kek, "--out", r.file)
	require.Equal(t, exitDone, status, log)
	return r
}

func (r *rotating) args(args ...string) []string {
	return append(append([]string{"keys"}, args...), "--kek", r.kek, "--keyset", r.file)
}

// rotate runs "keys rotate" and returns its report.
func (r *rotating) rotate(t *testing.T, args ...string) rotationReport {
	t.Helper()
	status, out, log := sealcache(t, r.args(append([]string{"rotate", "--every", "90d", "--settle", "48h", "--json"}, args...)...)...)
	require.Equal(t, exitDone, status, log)
	var report rotationReport
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	return report
}

// passes moves all times of the keys into the past, as if so much time had passed.
func (r *rotating) passes(t *testing.T, d time.Duration) {
	t.Helper()
	kek, done, err := openKEK(t.Context(), r.kek)
	require.NoError(t, err)
	defer done()
	data, err := os.ReadFile(r.file)
	require.NoError(t, err)
	h, _, err := readKeyset(t.Context(), data, kek, "")
	require.NoError(t, err)
	times, err := readKeyTimes(r.file, h)
	require.NoError(t, err)
	for id, k := range times {
		for _, at := range []*time.Time{&k.Created, &k.Promoted, &k.Demoted, &k.Disabled, &k.Enabled} {
			if !at.IsZero() {
				*at = at.Add(-d)
			}
		}
		times[id] = k
	}
	require.NoError(t, times.write(r.file, h))
}

func (r *rotating) ring(t *testing.T) *aead.Keyring {
	t.Helper()
	kek, done, err := openKEK(t.Context(), r.kek)
	require.NoError(t, err)
	t.Cleanup(done)
	ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(r.file), kek)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ring.Close() })
	return ring
}

const rotationDay = 24 * time.Hour

// A whole rotation by cron: added after 90 days, promoted after two more, disabled when no value names it.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	r := newRotating(t)
	old := parseID(t, ids(t, r.file)[0])
	set := func(key string) {
		e, err := aead.NewEnvelope(t.Context(), r.ring(t))
		require.NoError(t, err)
		defer e.Close()
		s, err := middleware.New(backing, e, middleware.WithNamespace("shop"))
		require.NoError(t, err)
		require.NoError(t, s.Set(t.Context(), key, "value"))
	}
	set("a")

	require.Empty(t, r.rotate(t).Actions)
	r.passes(t, 89*rotationDay)
	require.Empty(t, r.rotate(t).Actions)
	r.passes(t, 2*rotationDay)
	added := r.rotate(t).Actions
	require.Len(t, added, 1)
	require.Equal(t, "added", added[0].Action)
	next := added[0].Key
	report := r.rotate(t)
	require.Empty(t, report.Actions, "it settles")
	require.Contains(t, report.Waiting[0], "will become the primary key after")
	r.passes(t, 49*time.Hour)
	require.Equal(t, []rotationAction{{"promoted", next}}, r.rotate(t).Actions)
	require.Empty(t, r.rotate(t).Actions)

	unused := []string{"--disable-unused", "--store", server.URL(), "--store", other.URL()}
	report = r.rotate(t, unused...)
	require.Empty(t, report.Actions)
	require.Contains(t, report.Waiting[len(report.Waiting)-1], "less than --settle ago")
	r.passes(t, 49*time.Hour)
	report = r.rotate(t, unused...)
	require.Empty(t, report.Actions)
	require.Contains(t, strings.Join(report.Waiting, "\n"), "? NO: 1 values are sealed under")
	set("a")
	report = r.rotate(t, unused...)
	require.Empty(t, report.Actions)
	require.Contains(t, strings.Join(report.Waiting, "\n"), "no name was found", "an empty server proves nothing")
	require.NoError(t, other.Client(t).HSet(t.Context(), "hash", "field", "value").Err())
	require.Contains(t, strings.Join(r.rotate(t, unused...).Waiting, "\n"), "add hash to --ignore-type")
	unused = unused[:3]
	report = r.rotate(t, unused...)
	require.Equal(t, []rotationAction{{"disabled", old}}, report.Actions)
	require.Len(t, report.Scope, 1)
	require.Contains(t, report.Scope[0], server.Addr()+", database 0: ")
	require.Len(t, report.Audited, 1)
	require.Contains(t, report.Audited[0].Server, server.Addr())

	// Enabled again by hand, it stays.
	status, _, log := sealcache(t, r.args("enable", fmt.Sprint(old))...)
	require.Equal(t, exitDone, status, log)
	r.passes(t, 10*rotationDay)
	report = r.rotate(t, unused...)
	require.Empty(t, report.Actions)
	require.Contains(t, strings.Join(report.Waiting, "\n"), "was enabled by hand")

	// The application sees the times.
	for _, key := range r.ring(t).Keys() {
		require.False(t, key.Times.Created.IsZero())
		age, known := key.Age(time.Now())
		require.True(t, known)
		require.Greater(t, age, 10*rotationDay)
		require.Equal(t, key.Primary, !key.Times.Promoted.IsZero() && key.Times.Demoted.IsZero())
	}
}

func parseID(t *testing.T, s string) uint32 {
	t.Helper()
	id, err := strconv.ParseUint(s, 10, 32)
	require.NoError(t, err)
	return uint32(id)
}

// Without times, or with times that were altered, the age is unknown: the primary key counts as due, and no key is promoted.
func TestKeysRotateWithoutTimes(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, r *rotating){
		"missing": func(t *testing.T, r *rotating) { t.Helper(); require.NoError(t, os.Remove(timesFile(r.file))) },
		"altered": func(t *testing.T, r *rotating) {
			t.Helper()
			data, err := os.ReadFile(timesFile(r.file))
			require.NoError(t, err)
			altered := strings.Replace(string(data), `"promoted": "2`, `"promoted": "3`, 1)
			require.NotEqual(t, string(data), altered)
			require.NoError(t, os.WriteFile(timesFile(r.file), []byte(altered), 0o600))
		},
		"of another keyset": func(t *testing.T, r *rotating) {
			t.Helper()
			data, err := os.ReadFile(timesFile(newRotating(t).file))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(timesFile(r.file), data, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotating(t)
			spoil(t, r)
			status, out, log := sealcache(t, r.args("list")...)
			require.Equal(t, exitDone, status, log)
			require.Contains(t, out, "age unknown")
			report := r.rotate(t)
			require.Len(t, report.Actions, 1)
			require.Equal(t, "added", report.Actions[0].Action)
			require.Contains(t, report.Waiting[0], "is unknown")
			require.Empty(t, r.rotate(t).Actions, "one key is enough")
			require.Len(t, ids(t, r.file), 2)
		})
	}
}

// A key that another tool promoted, or added, counts from when it is first seen.
func TestKeysRotateAfterAnotherTool(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	kek, done, err := openKEK(t.Context(), r.kek)
	require.NoError(t, err)
	defer done()
	edit := func(change func(m *keyset.Manager)) {
		data, err := os.ReadFile(r.file)
		require.NoError(t, err)
		h, view, err := readKeyset(t.Context(), data, kek, "")
		require.NoError(t, err)
		m := keyset.NewManagerFromHandle(h)
		change(m)
		changed, err := m.Handle()
		require.NoError(t, err)
		after, err := (&keysetFile{kek: kek, to: kek}).write(t.Context(), changed, view.associatedData, true)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(r.file, after, 0o600))
	}
	var tinkeys uint32
	edit(func(m *keyset.Manager) {
		var err error
		tinkeys, err = m.Add(keyTemplates()["aes256-gcm"])
		require.NoError(t, err)
	})
	r.passes(t, 100*rotationDay)
	report := r.rotate(t)
	require.Equal(t, "added", report.Actions[0].Action, "a key of unknown age is not promoted")
	r.passes(t, 3*rotationDay)
	today := func() string { return time.Now().UTC().Format(time.DateOnly) }
	before := today()
	edit(func(m *keyset.Manager) { require.NoError(t, m.SetPrimary(report.Actions[0].Key)) })
	require.Empty(t, r.rotate(t).Actions)
	_, out, _ := sealcache(t, r.args("list")...)
	require.Regexp(t, fmt.Sprintf(`\* +%d .* primary since (%s|%s)`, report.Actions[0].Key, before, today()), out) // at midnight, too
	require.Regexp(t, fmt.Sprintf(` %d .* age unknown, not primary since`, tinkeys), out)
}

// Of eight that run at once, one adds the key. The others find that nothing is left to do.
func TestKeysRotateAtOnce(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	for _, want := range []string{"added", "promoted"} {
		r.passes(t, 100*rotationDay)
		var cmds []*exec.Cmd
		var outs []*strings.Builder
		for range 8 {
			cmd := exec.CommandContext(t.Context(), "sealcache", r.args("rotate", "--every", "90d", "--json")...)
			out := new(strings.Builder)
			cmd.Stdout, cmd.Stderr = out, os.Stderr
			require.NoError(t, cmd.Start())
			cmds, outs = append(cmds, cmd), append(outs, out)
		}
		acted := 0
		for i, cmd := range cmds {
			require.NoError(t, cmd.Wait())
			acted += strings.Count(outs[i].String(), `"action": "`+want)
		}
		require.Equal(t, 1, acted, want)
		require.Len(t, ids(t, r.file), 2)
	}
}

// A rotation that is killed at any moment leaves a whole keyset, and times that open or are missing; the next one goes on.
func TestKilledKeysRotate(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	rotate := r.args("rotate", "--every", "90d", "--settle", "1h")
	r.passes(t, 100*rotationDay)                              // so that the run whose time is taken does a step
	waits := append(moments(t, 25, rotate...), 5*time.Minute) // the last run does its step, however slow the machine is by then
	r.rotate(t)
	steps := 0
	for _, wait := range waits {
		r.passes(t, 100*rotationDay)
		before := len(ids(t, r.file))
		content, err := os.ReadFile(r.file)
		require.NoError(t, err)
		killAfter(t, wait, rotate...)
		status, out, log := sealcache(t, r.args("list")...)
		require.Equal(t, exitDone, status, log)
		require.NotContains(t, out, "age unknown")
		require.Contains(t, []int{before, before + 1}, len(ids(t, r.file)))
		after, err := os.ReadFile(r.file)
		require.NoError(t, err)
		if !bytes.Equal(after, content) {
			steps++ // a key was added or became primary
		}
		r.rotate(t)
	}
	require.Positive(t, steps)
	require.Equal(t, []string{"keyset.json", "keyset.json.times"}, namesIn(t, filepath.Dir(r.file)))
}

func TestKeysRotateRefuses(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	for name, args := range map[string][]string{
		"no every":          {},
		"not a duration":    {"--every", "soon"},
		"settle too long":   {"--every", "1h"},
		"negative":          {"--every", "-90d"},
		"no store":          {"--every", "90d", "--disable-unused"},
		"store alone":       {"--every", "90d", "--store", "redis://localhost:1/0"},
		"an argument":       {"--every", "90d", "1"},
		"a keyset that was": {"--every", "90d", "--keyset", r.file + "x"},
	} {
		status, _, _ := sealcache(t, append(r.args("rotate"), args...)...)
		require.Equal(t, exitUsage, status, name)
	}
}

// A Redis that cannot be used is found before the step that is due, and the error names its flag.
func TestKeysRotateChecksStoresFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := newRotating(t)
	r.passes(t, 100*rotationDay)
	before, err := os.ReadFile(r.file)
	require.NoError(t, err)
	rotate := append(r.args("rotate", "--every", "90d", "--disable-unused", "--store", server.URL()), "--store")
	for url, want := range map[string]struct {
		status int
		text   string
	}{
		"nonsense":                          {exitUsage, "--store: "},
		server.URL() + "?nonsense=1":        {exitUsage, "--store: "},
		"redis://" + server.Addr() + "/99":  {exitUsage, "(check the number in --store)"},
		"redis+cluster://" + server.Addr():  {exitUsage, "(write redis:// in --store)"},
		"redis://127.0.0.1:1?max_retries=0": {exitFailed, "redis does not answer (check --store): "},
	} {
		status, out, log := sealcache(t, append(rotate, url)...)
		require.Equal(t, want.status, status, "%s: %s", url, log)
		require.Empty(t, out, url)
		require.Contains(t, log, want.text, url)
		require.NotContains(t, log, "--redis", url)
		after, err := os.ReadFile(r.file)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), url)
	}
	require.Equal(t, "added", r.rotate(t, "--disable-unused", "--store", server.URL()).Actions[0].Action)
}

// A step whose ages are not saved is in the report, because it changed the keyset.
func TestKeysRotateReportsAStepWithoutAges(t *testing.T) {
	t.Parallel()
	r := newRotating(t)
	r.passes(t, 100*rotationDay)
	r.rotate(t) // added
	r.passes(t, 100*rotationDay)
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "missing", "x"), timesFile(r.file)+".new"))
	status, out, log := sealcache(t, r.args("rotate", "--every", "90d")...)
	require.Equal(t, exitFailed, status, log)
	require.Contains(t, out, "promoted key ")
	require.Contains(t, log, errTimesNotSaved.Error())
}

// A rotation that fails after its step does not end with the status for "nothing was done".
func TestKeysRotateFailsAfterItsStep(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--cluster-enabled", "yes") // a node answers, but an audit of one node refuses to run
	r := newRotating(t)
	for range 2 { // added, promoted
		r.passes(t, 100*rotationDay)
		r.rotate(t)
	}
	r.passes(t, 100*rotationDay)
	status, out, log := sealcache(t, r.args("rotate", "--every", "90d", "--disable-unused", "--store", "redis://"+server.Addr())...)
	require.Equal(t, exitFailed, status, log)
	require.Contains(t, out, "added key ")
	require.Contains(t, log, "audit of redis://"+server.Addr()+", database 0: ")
	require.Len(t, ids(t, r.file), 3)
}
