package audit

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// peeked is what is known of a value from its first bytes.
type peeked struct {
	name  string
	size  int64
	start []byte
}

func beginsWithAny(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

func (a *auditor) batch(ctx context.Context, names []string) (*findings, error) {
	f := &findings{seen: int64(len(names))}
	var values, queues []string
	for _, name := range names {
		switch {
		case beginsWithAny(name, a.Exclude):
			f.excluded++
		case beginsWithAny(name, a.OtherApplications):
			f.foreign++
		case ofJobs(name):
			queues = append(queues, name)
		default:
			values = append(values, name)
		}
	}
	strangers, err := a.queues(ctx, queues, f)
	if err != nil {
		return nil, err
	}
	return f, a.caches(ctx, append(values, strangers...), f)
}

// caches looks at what may be values of caches.
func (a *auditor) caches(ctx context.Context, names []string, f *findings) error {
	sizes, starts := make([]*redis.IntCmd, len(names)), make([]*redis.StringCmd, len(names))
	err := a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			sizes[i] = p.StrLen(ctx, name)
			starts[i] = p.GetRange(ctx, name, 0, window-1)
		}
	})
	if err != nil {
		return err
	}
	var others []string
	var sealed []peeked
	for i, name := range names {
		n, err := sizes[i].Result()
		start, err2 := starts[i].Bytes()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"), redis.HasErrorPrefix(err2, "WRONGTYPE"), err == nil && n == 0:
			others = append(others, name) // or empty, or gone
		case err != nil:
			return rediswalk.WithoutNames(err)
		case err2 != nil:
			return rediswalk.WithoutNames(err2)
		case wire.IsSealed(start):
			sealed = append(sealed, peeked{name, n, start})
		default:
			a.unsealed(name, n, start, f)
		}
	}
	kinds, err := a.servers.Kinds(ctx, others)
	if err != nil {
		return err
	}
	for i, kind := range kinds {
		switch {
		case kind == "none":
		case kind == "string": // an empty one
			a.unsealed(others[i], 0, nil, f)
		case kind == "set" && strings.HasPrefix(others[i], tagPrefix):
			f.tagSets++
		default:
			f.other(kind, 1)
			f.sample("of type "+kind, others[i], a.Samples)
		}
	}
	return a.sealed(ctx, sealed, f)
}

func (a *auditor) unsealed(name string, n int64, start []byte, f *findings) {
	if cachevalue.IsHyperLogLog(start, n) {
		f.other("HyperLogLog", 1)
		f.sample("of type HyperLogLog", name, a.Samples)
		return
	}
	g := f.group(a.groupOf(name))
	if cachevalue.IsFernet(start) {
		f.total.Fernet.add(1, n)
		g.Fernet.add(1, n)
		f.sample("Fernet tokens", name, a.Samples)
		return
	}
	f.total.Plaintext.add(1, n)
	g.Plaintext.add(1, n)
	f.sample("in clear", name, a.Samples)
}

// sealed looks at values that begin as sealed ones.
func (a *auditor) sealed(ctx context.Context, values []peeked, f *findings) error {
	if err := a.extend(ctx, values); err != nil {
		return err
	}
	var open []peeked
	for _, v := range values {
		g := f.group(a.groupOf(v.name))
		h, n, err := wire.Parse(v.start)
		if err != nil || h.Kind != wire.CacheValue {
			f.total.UnknownFormat.add(1, v.size)
			g.UnknownFormat.add(1, v.size)
			f.sample("of foreign format", v.name, a.Samples)
			continue
		}
		f.total.Sealed.add(1, v.size)
		g.Sealed.add(1, v.size)
		f.key(cachevalue.KeyOf(v.start[n:]), 1, v.size)
		if a.sealers != nil {
			open = append(open, peeked{name: v.name, size: v.size})
		}
	}
	return rediswalk.Groups(len(open), func(i int) int64 { return open[i].size }, func(from, to int) error {
		return a.open(ctx, open[from:to], f)
	})
}

// extend reads more of those values whose wrapped data key does not fit into the window.
func (a *auditor) extend(ctx context.Context, values []peeked) error {
	const most = wire.MaxHeaderSize + 4 + 4096 + 16
	var long []*peeked
	for i := range values {
		v := &values[i]
		_, n, err := wire.Parse(v.start)
		if err != nil || v.size <= window || len(v.start) < n+4 {
			continue
		}
		if wrapped := binary.BigEndian.Uint32(v.start[n:]); wrapped <= 4096 && n+4+int(wrapped)+16 > len(v.start) {
			long = append(long, v)
		}
	}
	if len(long) == 0 {
		return nil
	}
	cmds := make([]*redis.StringCmd, len(long))
	err := a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, v := range long {
			cmds[i] = p.GetRange(ctx, v.name, 0, most-1)
		}
	})
	if err != nil {
		return err
	}
	for i, v := range long {
		// If it has changed meanwhile it is still one moment's value.
		if b, err := cmds[i].Bytes(); err == nil && wire.IsSealed(b) {
			v.start = b
		}
	}
	return nil
}

// open opens sealed values of caches.
func (a *auditor) open(ctx context.Context, group []peeked, f *findings) error {
	names := make([]string, len(group))
	for i := range group {
		names[i] = group[i].name
	}
	values, err := a.servers.Read(ctx, names)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, ad *[]byte, i int) error {
		ns, key := "", group[i].name
		for candidate := range a.sealers {
			if rest, ok := strings.CutPrefix(group[i].name, candidate+":"); ok && candidate != "" {
				ns, key = candidate, rest
			}
		}
		_, n, _ := cachevalue.Header(values[i])
		_, _, err := cachevalue.OpenAny(ctx, ad, a.sealers[ns], false, key, values[i], n)
		return err
	}
	dataKey := func(i int) string { return cachevalue.DataKey(values[i]) }
	var ad []byte
	return cachevalue.ByDataKey(ctx, len(values), dataKey, func(ctx context.Context, i int) { _ = open(ctx, new([]byte), i) }, func(i int) error {
		if _, _, ok := cachevalue.Header(values[i]); !ok {
			return nil // gone, or something else by now
		}
		err := open(ctx, &ad, i)
		switch size := int64(len(values[i])); {
		case err == nil:
		case cachevalue.Refused(err):
			f.total.Unreadable.add(1, size)
			f.group(a.groupOf(group[i].name)).Unreadable.add(1, size)
			f.sample("unreadable", group[i].name, a.Samples)
		default:
			return err
		}
		return nil
	})
}
