package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealcache": main})
}

// TestScripts runs testdata/script: a Redis of its own for each, whose URL is $REDIS, and a keyset in clear, $WORK/kek.json,
// as a platform would mount it. Two commands beside testscript's:
//
//	redis ARGS...      sends a command to Redis; the reply is the output
//	rotate FILE        gives a keyset in clear a new primary key, and sets $OLD and $NEW to the ids
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
			"rotate": rotateCommand,
		},
	})
}

func redisCommand(ts *testscript.TestScript, neg bool, args []string) {
	client := redis.NewClient(&redis.Options{Addr: ts.Getenv("ADDR"), DisableIdentity: true})
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
