package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealcache": main})
}

// TestScripts runs testdata/script with a Redis for each, whose URL is $REDIS, and a plaintext keyset, $WORK/kek.json,
// as a platform would mount it. Five commands besides testscript's:
//
//	status N ARGS...   runs sealcache, which must end with the exit status N
//	check [NAMESPACE]  is an application that starts with the keys of $KEK: it makes or opens the key check
//	redis ARGS...      sends a command to Redis, with -n N first to its database N; the reply is the output
//	keyids FILE        sets $OLD to the id of the first key of a keyset and $NEW to that of the last
//	rotate FILE        gives a plaintext keyset a new primary key, and sets $OLD and $NEW to the ids
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			server, err := redistest.Run(ctx, redistest.Options{})
			if err != nil {
				return err
			}
			env.Defer(func() { _ = server.Close() })
			env.Setenv("REDIS", server.URL())
			env.Setenv("ADDR", server.Addr())
			kek := filepath.Join(env.WorkDir, "kek.json")
			env.Setenv("KEK", "file://"+filepath.ToSlash(kek))
			var b bytes.Buffer
			if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
				return err
			}
			return os.WriteFile(kek, b.Bytes(), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"redis":  redisCommand,
			"keyids": keyidsCommand,
			"rotate": rotateCommand,
			"status": statusCommand,
			"check":  checkCommand,
		},
	})
}

func statusCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status N ARGS...")
	}
	err := ts.Exec("sealcache", args[1:]...)
	var exit *exec.ExitError
	status := 0
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("sealcache ended with status %d, want %s", status, args[0])
	}
}

func checkCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: check [NAMESPACE]")
	}
	ctx := context.Background()
	kek, err := aead.OpenKEK(ctx, ts.Getenv("KEK"))
	ts.Check(err)
	defer kek.(*aead.Keyring).Close() //nolint:forcetypeassert // a file is one
	e, err := aead.NewEnvelope(ctx, kek)
	ts.Check(err)
	defer e.Close()
	backing, err := redisstore.Open(ctx, ts.Getenv("REDIS"))
	ts.Check(err)
	defer backing.Close()
	opts := []middleware.Option{middleware.WithLogger(slog.New(slog.DiscardHandler))}
	if len(args) > 0 {
		opts = append(opts, middleware.WithNamespace(args[0]))
	}
	s, err := middleware.New(backing, e, opts...)
	ts.Check(err)
	ts.Check(s.Check(ctx))
}

func redisCommand(ts *testscript.TestScript, neg bool, args []string) {
	db := 0
	if len(args) > 2 && args[0] == "-n" {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		db, args = n, args[2:]
	}
	client := redis.NewClient(&redis.Options{Addr: ts.Getenv("ADDR"), DB: db, DisableIdentity: true})
	defer client.Close()
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = a
	}
	reply, err := client.Do(context.Background(), all...).Result()
	if (err != nil) != neg {
		ts.Fatalf("redis %s: %v, %v", strings.Join(args, " "), reply, err)
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%v\n", reply)
	ts.Check(err)
}

func keyidsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keyids FILE")
	}
	ids := regexp.MustCompile(`"keyId": *([0-9]+)`).FindAllStringSubmatch(ts.ReadFile(args[0]), -1)
	if len(ids) == 0 {
		ts.Fatalf("no key")
	}
	ts.Setenv("OLD", ids[0][1])
	ts.Setenv("NEW", ids[len(ids)-1][1])
	stale := ts.MkAbs("stale.json") // the report of an audit, if there is one, is about the old key
	if data, err := os.ReadFile(stale); err == nil {
		ts.Check(os.WriteFile(stale, regexp.MustCompile(`"may_destroy": [0-9]+`).ReplaceAll(data, []byte(`"may_destroy": `+ids[0][1])), 0o600))
	}
}

func rotateCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rotate FILE")
	}
	file := ts.MkAbs(args[0])
	h, err := insecurecleartextkeyset.Handle(context.Background(), aead.FileSource(file))
	ts.Check(err)
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	ts.Check(err)
	ts.Check(m.SetPrimary(id))
	now, err := m.Handle()
	ts.Check(err)
	var b bytes.Buffer
	ts.Check(insecurecleartextkeyset.Write(&b, now))
	ts.Check(os.WriteFile(file, b.Bytes(), 0o600))
	ts.Setenv("OLD", fmt.Sprint(h.KeysetInfo().GetPrimaryKeyId()))
	ts.Setenv("NEW", fmt.Sprint(id))
}
