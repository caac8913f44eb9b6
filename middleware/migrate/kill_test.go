package migrate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// childVariable makes the test binary a process that migrates, to be killed. It holds an order.
const childVariable = "MIGRATE_TEST_CHILD"

type order struct {
	Addrs      []string
	Keyset     string
	From       migrate.Space
	To         *migrate.Space
	Rate       float64
	Checkpoint string
	Begun      bool // it is killed only after it has written a checkpoint
}

func child() int {
	if err := obey(); err != nil {
		log.Print(err)
		return 1
	}
	return 0
}

func obey() error {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &o); err != nil {
		return err
	}
	ctx := context.Background()
	keys, err := insecurecleartextkeyset.OpenKeyring(ctx, aead.FileSource(o.Keyset))
	if err != nil {
		return err
	}
	rdb := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: o.Addrs, DisableIdentity: true})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	r, err := migratetest.Unproven(tuned(ctx, rediswalk.Tuning{BatchSize: 40, CheckpointEvery: 3 * time.Millisecond}), rdb, migrate.Config{
		Operation: migrate.Seal, From: o.From, To: o.To, Keys: keys, DeleteOld: o.To != nil, IgnoreUnreadable: o.To != nil,
		Rate: o.Rate, Checkpoint: o.Checkpoint,
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// obeyed runs a child. It is killed after a while, unless that is 0; then its report is returned. begun reports whether it was killed
// after it had written a checkpoint.
func obeyed(t *testing.T, o order, after time.Duration) (r *migrate.Report, begun bool) {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	before, _ := os.ReadFile(o.Checkpoint)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	if after > 0 {
		if o.Begun {
			begun = awaitChange(t, o.Checkpoint, before)
		}
		time.Sleep(after)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		return nil, begun
	}
	r = new(migrate.Report)
	require.NoError(t, json.NewDecoder(lines).Decode(r))
	require.NoError(t, cmd.Wait())
	return r, true
}

// awaitChange waits a while until a file changes, and reports whether it does. A run with nothing left to do may write nothing.
func awaitChange(t *testing.T, file string, before []byte) bool {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, err := os.ReadFile(file); err == nil && !bytes.Equal(now, before) {
			return true
		}
		if err := t.Context().Err(); err != nil {
			return false
		}
	}
	return false
}

// A process that migrates is killed at random moments, again and again, and resumed each time. In the end every value, expiry
// and tag is as after one run, and no value is plaintext.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 50
	if testing.Short() {
		kills = 5
	}
	file := filepath.Join(t.TempDir(), "keyset.json")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(f, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, f.Close())
	keys, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.FileSource(file))
	require.NoError(t, err)
	t.Cleanup(func() { _ = keys.Close() })

	for _, c := range []struct {
		name  string
		kills int
		rdb   redis.UniversalClient
		addrs []string
		move  bool
	}{
		{"in place", kills, shared.Single.Client(t), []string{shared.Single.Addr()}, false},
		{"moved", kills/2 + 1, shared.Single.Client(t), []string{shared.Single.Addr()}, true},
		{"in place, cluster", kills/5 + 1, shared.Cluster.Client(t), shared.Cluster.Addrs(), false},
		{"moved, cluster", kills/5 + 1, shared.Cluster.Client(t), shared.Cluster.Addrs(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ns := strings.NewReplacer("/", "-", ",", "").Replace(t.Name())
			from := ns + ":"
			if c.move {
				from = ns + "-old:"
			}
			const perKill, tags = 400, 5
			n := perKill * c.kills
			model := map[string]int64{} // expiries
			pipe := c.rdb.Pipeline()
			for i := range n {
				ttl := time.Duration(0)
				if i%2 == 0 {
					ttl = time.Hour + time.Duration(i)*time.Millisecond
				}
				pipe.Set(ctx, fmt.Sprint(from, i), fmt.Sprint("value ", i), ttl)
			}
			_, err := pipe.Exec(ctx)
			require.NoError(t, err)
			for i := range tags {
				pipe.SAdd(ctx, fmt.Sprint("gocache_tag_", ns, i), fmt.Sprint(from, i), fmt.Sprint(from, i+tags), ns+"elsewhere")
			}
			for i := range n {
				pipe.Do(ctx, "pexpiretime", fmt.Sprint(from, i))
			}
			cmds, err := pipe.Exec(ctx)
			require.NoError(t, err)
			for i := range n {
				at, err := cmds[tags+i].(*redis.Cmd).Int64()
				require.NoError(t, err)
				model[fmt.Sprint(i)] = at
			}

			o := order{
				Addrs: c.addrs, Keyset: file, From: migrate.Space{Namespace: ns},
				Rate: 4000, Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
			}
			if c.move {
				o.From, o.To = migrate.Space{Prefix: from}, &migrate.Space{Namespace: ns}
			}
			begun := 0
			for i := range c.kills {
				// One in four at any moment, also before its first checkpoint; the others once they have written one.
				o.Begun = i%4 != 0
				if _, has := obeyed(t, o, time.Millisecond+rand.N(40*time.Millisecond)); has {
					begun++
				}
			}
			o.Rate = 0
			r, _ := obeyed(t, o, 0)
			require.True(t, r.Done(), "%+v", r)
			require.Greater(t, begun, c.kills/4, "the killed runs had begun, unless the machine stopped and the work was done")
			require.NoFileExists(t, o.Checkpoint)
			left, err := filepath.Glob(o.Checkpoint + "*")
			require.NoError(t, err)
			require.Empty(t, left)

			app := migratetest.SealedStore(t, c.rdb, keys, ns)
			for i, at := range model {
				require.Equal(t, []byte("value "+i), value(t, app, i))
				require.Equal(t, at, expiry(t, c.rdb, ns+":"+i))
				require.True(t, isSealed(stored(t, c.rdb, ns+":"+i)))
			}
			if c.move {
				for i := range tags {
					members, err := c.rdb.SMembers(ctx, fmt.Sprint("gocache_tag_", ns, ":", ns, i)).Result()
					require.NoError(t, err)
					require.ElementsMatch(t, []string{fmt.Sprint(ns, ":", i), fmt.Sprint(ns, ":", i+tags)}, members)
					require.EqualValues(t, 1, c.rdb.SCard(ctx, fmt.Sprint("gocache_tag_", ns, i)).Val())
				}
				for i := range n {
					require.Zero(t, c.rdb.Exists(ctx, fmt.Sprint(from, i)).Val(), "the old one is gone")
				}
			}
		})
	}
}
