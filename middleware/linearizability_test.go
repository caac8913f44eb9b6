package middleware_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores"
)

const (
	clientVariable = "SEALCACHE_TEST_ATOMIC_CLIENT" // the settings of a client process, as JSON

	clientProcesses, clientGoroutines, clientCalls = 3, 3, 100

	// incrementTTL is the TTL of all increments: overlapping ones may create an entry with the options of any of them.
	incrementTTL = 3_600_017
	// clockSlack is how many milliseconds the clock of Redis may differ from that of the clients. They are on one machine.
	clockSlack = 20
)

// clientSettings are what a client process needs.
type clientSettings struct {
	URL, KEK, Keyset string
	Redis            []string // addresses of masters
	SealedExpiry     bool
	Process          int
}

// call is what a client did: the history of porcupine.
type call struct {
	Client       int
	Key, Op      string
	Arg          int64
	Found        bool
	N            int64
	Text         bool // the entry found, or seen by the last call of an Update's function, does not hold a number
	NotANumber   bool
	TTL          int64 // milliseconds for an entry that is set, created or touched, 0 for none
	At           int64 // the answer of PEXPIRETIME: Unix milliseconds, -1 without expiry, -2 without entry
	Begin, Ended int64
}

// Concurrent calls of several processes have the results that they would have one after the other. An entry keeps its expiry
// to the millisecond until a call sets it.
func TestAtomicOperationsAreLinearizable(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]func(t *testing.T) clientSettings{
		"redis": func(t *testing.T) clientSettings {
			t.Helper()
			s := redistest.Start(t)
			return clientSettings{URL: s.URL(), Redis: []string{s.Addr()}}
		},
		"cluster": func(t *testing.T) clientSettings {
			t.Helper()
			c := redistest.StartCluster(t)
			return clientSettings{URL: c.URL(), Redis: c.Addrs(), SealedExpiry: true}
		},
		"sentinel": func(t *testing.T) clientSettings {
			t.Helper()
			s := redistest.StartSentinel(t)
			return clientSettings{URL: s.URL(), Redis: []string{s.Master(t).Addr()}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settings(t)
			s.KEK = sealtest.KEKFile(t)
			s.Keyset = sealtest.KeysetFile(t, s.KEK, tinkaead.AES256GCMKeyTemplate())
			history := runClients(t, s)
			require.Len(t, history, clientProcesses*clientGoroutines*clientCalls)
			operations := make([]porcupine.Operation, len(history))
			for i, c := range history {
				operations[i] = porcupine.Operation{ClientId: c.Client, Input: c, Output: c, Call: c.Begin, Return: c.Ended}
			}
			require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(entryModel(), operations, time.Minute))

			// The check can fail. It rejects a history in which one increment returned another sum, and one in which an
			// expiry moved by a millisecond between two reads. A single altered read can be possible: a call that overlaps it
			// could have set this expiry. So it may take several.
			wrong := func(change func(c *call)) {
				t.Helper()
				tries := 0
				for i, c := range history {
					if change(&c); c == history[i] {
						continue
					}
					altered := slices.Clone(operations)
					altered[i].Output = c
					if porcupine.CheckOperationsTimeout(entryModel(), altered, time.Minute) == porcupine.Illegal {
						return
					}
					if tries++; tries == 10 {
						break
					}
				}
				t.Errorf("none of %d altered histories was rejected", tries)
			}
			wrong(func(c *call) {
				if c.Op == "increment" && !c.NotANumber {
					c.N += 1_000_003
				}
			})
			seen := map[string]bool{}
			wrong(func(c *call) {
				if look := fmt.Sprint(c.Key, c.At); c.At > 0 && seen[look] {
					c.At++
				} else {
					seen[look] = true
				}
			})
		})
	}
}

func runClients(t *testing.T, settings clientSettings) []call {
	t.Helper()
	var wg sync.WaitGroup
	histories := make([][]call, clientProcesses)
	ready, start := make(chan bool, clientProcesses), make(chan bool)
	for i := range clientProcesses {
		settings.Process = i
		encoded, err := json.Marshal(settings)
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAtomicClient$")
		cmd.Env = append(os.Environ(), clientVariable+"="+string(encoded))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		wg.Go(func() {
			defer func() { ready <- true }()
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				text := lines.Text()
				if text == "ready" {
					ready <- true
					<-start
					_ = in.Close()
				}
				var c call
				if encoded, ok := strings.CutPrefix(text, "call "); ok && json.Unmarshal([]byte(encoded), &c) == nil {
					histories[i] = append(histories[i], c)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	for range clientProcesses {
		<-ready // or ended, and then the history is short
	}
	close(start)
	wg.Wait()
	return slices.Concat(histories...)
}

// TestAtomicClient is a client process of the test above. Otherwise it does nothing.
func TestAtomicClient(t *testing.T) {
	encoded := os.Getenv(clientVariable)
	if encoded == "" {
		return
	}
	var settings clientSettings
	require.NoError(t, json.Unmarshal([]byte(encoded), &settings))
	kek, err := aead.OpenKEK(t.Context(), settings.KEK+"?reload=off")
	require.NoError(t, err)
	defer kek.Close()
	k, err := aead.OpenKeyring(t.Context(), aead.FileSource(settings.Keyset), kek)
	require.NoError(t, err)
	defer func() { require.NoError(t, k.Close()) }()
	backing, err := stores.Open(t.Context(), settings.URL)
	require.NoError(t, err)
	var options []middleware.Option
	if settings.SealedExpiry {
		options = append(options, middleware.WithAuthenticatedExpiry())
	}
	s := sealed(t, backing, k, options...)
	rdb := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: settings.Redis, DisableIdentity: true})
	defer rdb.Close()
	defer func() { require.NoError(t, s.Close()) }()

	_, _ = fmt.Fprintln(os.Stdout, "ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until all are
	var wg sync.WaitGroup
	calls := make([][]call, clientGoroutines)
	for g := range clientGoroutines {
		wg.Go(func() {
			client := settings.Process*clientGoroutines + g
			random := rand.New(rand.NewPCG(uint64(client), uint64(time.Now().UnixNano())))
			for range clientCalls {
				c := call{
					Client: client, Key: fmt.Sprint("key", random.IntN(3)), Arg: random.Int64N(100) - 20,
					Op: []string{
						"increment", "increment", "increment", "update", "update", "set if not exists", "get", "get and delete", "set", "text", "delete", "touch",
						"expiry", "expiry", "expiry", "expiry",
					}[random.IntN(16)],
				}
				if c.TTL = incrementTTL; c.Op != "increment" {
					c.TTL = max(0, 3_600_000+random.Int64N(8_000_000)-4_000_000)
					if c.TTL < 600_000 {
						c.TTL = 0
					}
				}
				c.Begin = time.Now().UnixNano()
				err := c.run(t.Context(), s, rdb)
				c.Ended = time.Now().UnixNano()
				if err != nil {
					t.Errorf("%s: %v", c.Op, err)
				}
				calls[g] = append(calls[g], c)
			}
		})
	}
	wg.Wait()
	for _, c := range slices.Concat(calls...) {
		encoded, err := json.Marshal(c)
		require.NoError(t, err)
		_, _ = fmt.Fprintf(os.Stdout, "call %s\n", encoded)
	}
}

// run makes the call and records what came back.
func (c *call) run(ctx context.Context, s *middleware.Store, rdb redis.UniversalClient) (err error) {
	ttl := time.Duration(c.TTL) * time.Millisecond
	expiration := store.WithExpiration(ttl)
	see := func(value any, found bool) {
		c.Found = found
		c.N, _ = value.(int64)
		_, c.Text = value.(string)
	}
	switch c.Op {
	case "increment":
		c.N, err = s.Increment(ctx, c.Key, c.Arg, expiration)
		if c.NotANumber = errors.Is(err, middleware.ErrNotANumber); c.NotANumber {
			err = nil
		}
	case "update":
		err = s.Update(ctx, c.Key, func(old any, found bool) (any, error) {
			see(old, found)
			return c.N/2 + c.Arg, nil
		}, expiration)
	case "set if not exists":
		c.Found, err = s.SetIfNotExists(ctx, c.Key, c.Arg, expiration)
		c.Found = !c.Found
	case "get", "get and delete":
		get := s.Get
		if c.Op == "get and delete" {
			get = func(ctx context.Context, key any) (any, error) { return s.GetAndDelete(ctx, key) }
		}
		var value any
		value, err = get(ctx, c.Key)
		see(value, err == nil)
		if errors.Is(err, store.NotFound{}) {
			err = nil
		}
	case "set":
		err = s.Set(ctx, c.Key, c.Arg, expiration)
	case "text":
		err = s.Set(ctx, c.Key, "text", expiration)
	case "delete":
		err = s.Delete(ctx, c.Key)
	case "touch":
		err = s.Touch(ctx, c.Key, ttl)
		c.Found = err == nil
		if errors.Is(err, store.NotFound{}) {
			err = nil
		}
	case "expiry":
		c.At, err = rdb.Do(ctx, "pexpiretime", c.Key).Int64()
	}
	return err
}

// modelEntry is an entry of the sequential model.
type modelEntry struct {
	found, text bool
	n           int64
	expiry      expiryRange
}

// expiryRange is what is known of an entry's expiry, in Unix milliseconds. It is -1 twice without expiry, and one moment
// twice after a look.
type expiryRange struct{ first, last int64 }

// expiresIn is the expiry that a call set.
func (c *call) expiresIn() expiryRange {
	if c.TTL == 0 {
		return expiryRange{-1, -1}
	}
	return expiryRange{c.Begin/1e6 + c.TTL - clockSlack, c.Ended/1e6 + c.TTL + clockSlack}
}

// entryModel says what each call does to one entry.
func entryModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(call).Key
				byKey[key] = append(byKey[key], o)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() any { return modelEntry{} },
		Step: func(state, _, output any) (bool, any) {
			e, c := state.(modelEntry), output.(call)
			same := c.Found == e.found && c.N == e.n && c.Text == e.text
			created := func(n int64) modelEntry { return modelEntry{found: true, n: n, expiry: c.expiresIn()} }
			changed := func(n int64) modelEntry {
				if !e.found {
					return created(n)
				}
				return modelEntry{found: true, n: n, expiry: e.expiry}
			}
			switch c.Op {
			case "increment":
				if e.text || c.NotANumber {
					return e.text && c.NotANumber, e
				}
				return c.N == e.n+c.Arg, changed(c.N)
			case "update":
				return same, changed(e.n/2 + c.Arg)
			case "set if not exists":
				if e.found {
					return c.Found, e
				}
				return !c.Found, created(c.Arg)
			case "get":
				return same, e
			case "get and delete":
				return same, modelEntry{}
			case "set":
				return true, created(c.Arg)
			case "text":
				return true, modelEntry{found: true, text: true, expiry: c.expiresIn()}
			case "delete":
				return true, modelEntry{}
			case "expiry":
				if !e.found {
					return c.At == -2, e
				}
				known := e
				known.expiry = expiryRange{c.At, c.At}
				return e.expiry.first <= c.At && c.At <= e.expiry.last, known
			default: // touch
				touched := e
				if e.found {
					touched.expiry = c.expiresIn()
				}
				return c.Found == e.found, touched
			}
		},
	}
}
