package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sealcache/sealcache/aead"
	canaries "github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// planter makes the values and names of a run that uses every feature, and records them.
type planter struct {
	values *canaries.Set // Redis must never hold these in plaintext
	all    *canaries.Set // no log, error or metric may hold these: values, and the names of keys and tags
	*secretReports
	stored []string // the values in the backing store, which a search must find if they are plaintext
}

func newPlanter() *planter {
	p := &planter{values: new(canaries.Set), all: new(canaries.Set)}
	p.secretReports = newSecretReports(p.all)
	return p
}

func (p *planter) text(name string) string {
	text := p.refused(name)
	p.stored = append(p.stored, name)
	return text
}

// refused returns a value that the store refuses, so that Redis never gets it.
func (p *planter) refused(name string) string {
	text := p.values.Text(name)
	p.all.AddText(name, text)
	return text
}

func (p *planter) number(name string) int64 {
	n := p.values.Int(name)
	p.all.AddInt(name, n)
	p.stored = append(p.stored, name)
	return n
}

// key returns the name of a key or a tag. Redis may see it, the application's logs may not.
func (p *planter) key(name string) string { return name + "/" + p.all.Text("key "+name) }

// record is a value for codecs.
type record struct {
	Name   string
	Number int64
	Bytes  []byte
	More   map[string]string
}

// everyCodec returns one codec of each kind, and one that quotes its input.
func everyCodec() []middleware.Option {
	return []middleware.Option{
		middleware.WithCodec(quotingCodec{}),
		middleware.WithCodec(middleware.JSON[record]()),
		middleware.WithCodec(middleware.MsgPack[*record]()),
		middleware.WithCodec(middleware.Proto[*wrapperspb.StringValue]()),
	}
}

// stage is the setting of a run.
type stage struct {
	server *redistest.Server
	proxy  *redistest.Proxy // may be nil
	open   func(namespace string, opts ...middleware.Option) *middleware.Store
}

// stages returns two settings. One is redisstore with a network that can be cut, an Envelope, metrics and spans. The other is
// gocache's store with a Keyring and only a log.
func (p *planter) stages(t *testing.T, server *redistest.Server, common ...middleware.Option) map[string]stage {
	t.Helper()
	proxy := redistest.StartProxy(t, server.Addr())
	ours := overURL(t, "redis://"+proxy.Addr()+"/0", "max_retries=0")
	theirs := gocacheredis.NewRedis(server.Client(t))
	e, k := envelope(t, aead.WithLogger(p.Logger), aead.WithMaxMessages(50)), keyring(t)
	with := func(ns string, opts []middleware.Option, report ...middleware.Option) []middleware.Option {
		all := append(report, middleware.WithNamespace(ns), middleware.WithMaxValueBytes(20_000))
		return append(append(all, common...), opts...)
	}
	return map[string]stage{
		"redisstore": {server, proxy, func(ns string, opts ...middleware.Option) *middleware.Store {
			return sealed(t, ours, e, with(ns, opts, p.options()...)...)
		}},
		"gocache redis": {server, nil, func(ns string, opts ...middleware.Option) *middleware.Store {
			return sealed(t, theirs, k, with(ns, opts, middleware.WithLogger(p.Logger))...)
		}},
	}
}

// useEverything calls every method of a store, with good and bad arguments. If plaintext is set, the store writes
// plaintext, and values may return with another type, as over any gocache store.
func (p *planter) useEverything(t *testing.T, on stage, plaintext bool) {
	t.Helper()
	ctx, admin, s := within(t, patience), on.server.Client(t), on.open("app", everyCodec()...)
	type entry struct {
		key   string
		value any
	}
	var entries []entry
	add := func(name string, value any) { entries = append(entries, entry{p.key(name), value}) }
	add("string", p.text("string"))
	add("bytes", []byte(p.text("bytes")))
	add("long", strings.Repeat("- ", 3000)+p.text("long")+strings.Repeat(" -", 3000))
	add("int", int(p.number("int")))
	add("int64", p.number("int64"))
	add("uint64", uint64(p.number("uint64")))
	f := p.values.Float("float64")
	p.all.AddFloat("float64", f)
	p.stored = append(p.stored, "float64")
	add("float64", f)
	add("json", record{Name: p.text("json"), Number: p.number("json number"), Bytes: []byte(p.text("json bytes")), More: map[string]string{p.text("json key"): p.text("json value")}})
	add("msgpack", &record{Name: p.text("msgpack"), Number: p.number("msgpack number"), Bytes: []byte(p.text("msgpack bytes"))})
	add("proto", wrapperspb.String(p.text("proto")))

	for i, e := range entries {
		tag := p.key("tag")
		require.NoError(t, p.err(s.Set(ctx, e.key, e.value, store.WithTags([]string{tag}), store.WithExpiration(time.Hour))))
		_, _, err := s.GetWithTTL(ctx, e.key)
		require.NoError(t, p.err(err))
		got, err := s.Get(ctx, e.key)
		require.NoError(t, p.err(err))
		if !plaintext && i != len(entries)-1 { // the last is a message, with its own state
			require.Equal(t, e.value, got)
		}
		// Set again, set from another place, delete, and set once more.
		written, err := s.SetIfNotExists(ctx, e.key, e.value)
		require.NoError(t, p.err(err))
		require.False(t, written)
		require.NoError(t, p.err(s.Invalidate(ctx, store.WithInvalidateTags([]string{tag}))))
		written, err = s.SetIfNotExists(ctx, e.key, e.value, store.WithTags([]string{tag}), store.WithExpiration(time.Hour))
		require.NoError(t, p.err(err))
		require.True(t, written)
		require.NoError(t, p.err(s.Delete(ctx, e.key)))
		require.NoError(t, p.err(s.Set(ctx, e.key, e.value)))
	}
	require.NoError(t, p.err(s.Check(ctx)))
	for _, err := range s.Keys(ctx) {
		_ = p.err(err)
	}
	other := on.open("other")
	require.NoError(t, p.err(other.Set(ctx, p.key("other"), p.refused("other namespace"))))
	_ = p.err(other.Clear(ctx)) // not every store can do it

	p.useLayers(t, s)

	// Operations fail whose error could quote a value.
	refusedKey := p.key("refused")
	require.Error(t, p.err(s.Set(ctx, refusedKey, struct{ Secret string }{p.refused("no codec")})))
	require.Error(t, p.err(s.Set(ctx, struct{ Name string }{p.all.Text("no string")}, "value")))
	require.Error(t, p.err(s.Set(ctx, refusedKey, quoting(p.refused("codec error")))))
	require.Error(t, p.err(s.Set(ctx, refusedKey, strings.Repeat(p.refused("too large"), 1000))))
	require.Error(t, p.err(s.Set(ctx, refusedKey, p.refused("expired"), store.WithExpiration(-time.Second))))
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, p.err(s.Set(over, refusedKey, p.refused("canceled"))))
	_, err := s.Get(over, refusedKey)
	require.Error(t, p.err(err))
	require.NoError(t, admin.RPush(ctx, "app:"+refusedKey, "x").Err())
	_, err = s.Get(ctx, refusedKey)
	require.Error(t, p.err(err))
	_, err = s.SetIfNotExists(ctx, refusedKey, p.refused("there already"))
	_ = p.err(err)
	if !plaintext {
		p.meetAttacks(t, on, entries[0].key, entries[1].key)
	}
	// A codec that cannot read an opened value quotes it in its error.
	misfit := on.open("app", middleware.WithCodec(middleware.JSON[struct{ Number int8 }]()))
	_, err = misfit.Get(ctx, entries[7].key)
	if !plaintext {
		require.Error(t, p.err(err))
	}

	// A connection is cut while values travel.
	if proxy := on.proxy; proxy != nil {
		for i := range 10 {
			proxy.CutReplyAfter(3 * i)
			_ = p.err(s.Set(ctx, entries[i%len(entries)].key, entries[i%len(entries)].value))
			_, err := s.Get(ctx, entries[i%len(entries)].key)
			_ = p.err(err)
		}
		proxy.CutReplyAfter(-1)
		proxy.Cut()
	}
}

// quoting is a value that the codec of quotingCodec refuses.
type quoting string

type quotingCodec struct{}

func (quotingCodec) Format() middleware.Format { return middleware.FormatCustom }

func (quotingCodec) Encode(v any) ([]byte, error) {
	if q, ok := v.(quoting); ok {
		return nil, fmt.Errorf("cannot encode %q", string(q))
	}
	return nil, fmt.Errorf("%w: %T", middleware.ErrUnsupportedType, v)
}

func (quotingCodec) Decode([]byte) (any, error) { return nil, errors.New("not asked") }

// useLayers uses every layer of gocache over a store.
func (p *planter) useLayers(t *testing.T, s *middleware.Store) {
	t.Helper()
	ctx := within(t, patience)
	near := sealed(t, memory(t), keyring(t), append(p.options(), middleware.WithNamespace("near"))...)
	chain := cache.NewChain[string](cache.New[string](near), cache.New[string](s))
	c := cache.NewLoadable[string](func(context.Context, any) (string, []store.Option, error) {
		return p.text("loaded"), []store.Option{store.WithTags([]string{p.key("tag")})}, nil
	}, chain)
	_, err := c.Get(ctx, p.key("loaded"))
	require.NoError(t, p.err(err))
	require.NoError(t, p.err(chain.Set(ctx, p.key("chain"), p.text("chain"))))
	key := p.key("far")
	require.NoError(t, p.err(s.Set(ctx, key, p.text("far"))))
	_, err = chain.Get(ctx, key)
	_ = p.err(err) // in plaintext Redis returns bytes, and a Cache of strings fails
	require.NoError(t, p.err(c.Close()))
	require.NoError(t, p.err(chain.Close()))

	m := cache.NewMetric[int64](new(counted), cache.New[int64](s))
	key = p.key("metric")
	require.NoError(t, p.err(m.Set(ctx, key, p.number("metric"))))
	_, err = m.Get(ctx, key)
	_ = p.err(err)

	r := marshaler.NewCache[record](cache.New[[]byte](s))
	key = p.key("marshaler")
	require.NoError(t, p.err(r.Set(ctx, key, record{Name: p.text("marshaler"), Number: p.number("marshaler number")})))
	_, err = r.Get(ctx, key)
	require.NoError(t, p.err(err))
}

// meetAttacks reads values that were altered, moved, cut and planted, and replaces them.
func (p *planter) meetAttacks(t *testing.T, on stage, one, two string) {
	t.Helper()
	ctx, admin := within(t, patience), on.server.Client(t)
	strict, forgiving := on.open("app"), on.open("app", middleware.WithMissOnOpenFailure())
	sound, err := admin.Get(ctx, "app:"+one).Bytes()
	require.NoError(t, err)
	for _, planted := range [][]byte{sound[:len(sound)-1], sound[:5], append([]byte("x"), sound...), []byte("42"), {}} {
		require.NoError(t, admin.Set(ctx, "app:"+one, planted, 0).Err())
		_, err = strict.Get(ctx, one)
		require.Error(t, p.err(err))
		_, err = forgiving.Get(ctx, one)
		require.ErrorIs(t, p.err(err), store.NotFound{})
		_, err = forgiving.SetIfNotExists(ctx, one, p.refused("instead"))
		_ = p.err(err) // gocache's store cannot replace a value atomically
	}
	require.NoError(t, admin.Set(ctx, "app:"+two, sound, 0).Err())
	_, err = strict.Get(ctx, two)
	require.ErrorIs(t, p.err(err), middleware.ErrUnauthentic)
	require.NoError(t, admin.Set(ctx, "app:"+one, sound, 0).Err())
}

// talkative returns a Redis that logs and keeps everything.
func talkative(t *testing.T) *redistest.Server {
	t.Helper()
	return redistest.StartWith(t, redistest.Options{AppendOnly: true, Args: []string{
		"--appendfsync", "no", "--loglevel", "debug", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000",
	}})
}

// media returns everything that a server wrote and showed.
func media(t *testing.T, server *redistest.Server, monitor *redistest.Monitor) map[string][]byte {
	t.Helper()
	found := map[string][]byte{"MONITOR": monitor.Bytes(t)}
	logs, err := server.Client(t).SlowLogGet(t.Context(), -1).Result()
	require.NoError(t, err)
	found["SLOWLOG"], err = json.Marshal(logs)
	require.NoError(t, err)
	server.DumpFiles(t) // makes the server write its dump
	require.NoError(t, filepath.WalkDir(server.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, server.Dir()+"/")] = b
		return err
	}))
	return found
}

// aof joins the parts of the append-only file.
func aof(found map[string][]byte) []byte {
	var all []byte
	for name, b := range found {
		if strings.HasPrefix(name, "appendonlydir/") {
			all = append(all, b...)
		}
	}
	return all
}

func TestRedisSeesNoValue(t *testing.T) {
	t.Parallel()
	p, server := newPlanter(), talkative(t)
	monitor := server.Monitor(t)
	for name, on := range p.stages(t, server) {
		t.Log(name)
		p.useEverything(t, on, false)
	}
	found := media(t, server, monitor)
	require.Contains(t, found, "dump.rdb")
	require.Contains(t, found, "redis.log")
	require.NotEmpty(t, aof(found))
	for name, b := range found {
		require.NotEmpty(t, b, name)
		require.Empty(t, p.values.Find(b), "in plaintext in %s", name)
	}
	p.requireNoSecrets(t)
	require.NotEmpty(t, p.Places(t)["log"], "it was asked to log")
}

// The same run in plaintext shows that the search works: it must find each value.
func TestRedisWouldSeePlaintext(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redisstore", "gocache redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, server := newPlanter(), talkative(t)
			monitor := server.Monitor(t)
			on := p.stages(t, server, middleware.WithPlaintext(middleware.WritePlaintext))[name]
			p.useEverything(t, on, true)
			found := media(t, server, monitor)
			for where, b := range map[string][]byte{"MONITOR": found["MONITOR"], "RDB": found["dump.rdb"], "AOF": aof(found)} {
				require.Subset(t, p.values.Find(b), p.stored, where)
			}
			require.Contains(t, p.values.Find(found["SLOWLOG"]), "string")
			p.requireNoSecrets(t) // logs and errors show no value in plaintext mode either
		})
	}
}

// A value that was plaintext is sealed by its next read, and gone from the next dump.
func TestSealOnReadLeavesNothingInTheDump(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var values canaries.Set
	text, number := values.Text("text"), values.Int("number")
	admin := server.Client(t)
	require.NoError(t, admin.Set(t.Context(), "text", text, 0).Err())
	require.NoError(t, admin.Set(t.Context(), "number", number, 0).Err())
	require.Equal(t, []string{"number", "text"}, values.Find(server.DumpFiles(t)["dump.rdb"]))
	s := sealed(t, overRedis(t, server), envelope(t), middleware.WithPlaintext(middleware.SealOnRead))
	for _, key := range []string{"text", "number"} {
		_, err := s.Get(t.Context(), key)
		require.NoError(t, err)
	}
	require.Empty(t, values.Find(server.DumpFiles(t)["dump.rdb"]))
	got, err := s.Get(t.Context(), "text")
	require.NoError(t, err)
	require.Equal(t, []byte(text), got)
}
