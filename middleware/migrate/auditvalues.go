package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

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
		case beginsWithAny(name, a.Foreign):
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
	err := a.servers.pipelined(ctx, func(p redis.Pipeliner) {
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
			return withoutNames(err)
		case err2 != nil:
			return withoutNames(err2)
		case wire.IsSealed(start):
			sealed = append(sealed, peeked{name, n, start})
		default:
			a.unsealed(name, n, start, f)
		}
	}
	kinds, err := a.servers.kinds(ctx, others)
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
	if isHyperLogLog(start, n) {
		f.other("HyperLogLog", 1)
		f.sample("of type HyperLogLog", name, a.Samples)
		return
	}
	g := f.group(a.groupOf(name))
	if isFernet(start) {
		f.total.Fernet.add(1, n)
		g.Fernet.add(1, n)
		f.sample("Fernet tokens", name, a.Samples)
		return
	}
	f.total.Clear.add(1, n)
	g.Clear.add(1, n)
	f.sample("in clear", name, a.Samples)
}

// isFernet tells whether a value begins as a Fernet token does: version 0x80 and a time before the year 2106, in base64url.
func isFernet(start []byte) bool {
	return len(start) >= 100 && bytes.HasPrefix(start, []byte("gAAAAA")) &&
		!slices.ContainsFunc(start, func(c byte) bool {
			return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != '='
		})
}

// sealed looks at values that begin as sealed ones.
func (a *auditor) sealed(ctx context.Context, values []peeked, f *findings) error {
	if err := a.extend(ctx, values); err != nil {
		return err
	}
	var open []entry
	for _, v := range values {
		g := f.group(a.groupOf(v.name))
		h, n, err := wire.Parse(v.start)
		if err != nil || h.Kind != wire.CacheValue {
			f.total.Foreign.add(1, v.size)
			g.Foreign.add(1, v.size)
			f.sample("of foreign format", v.name, a.Samples)
			continue
		}
		f.total.Sealed.add(1, v.size)
		g.Sealed.add(1, v.size)
		f.key(nameOf(v.start[n:]), 1, v.size)
		if a.sealers != nil {
			open = append(open, entry{name: v.name, size: v.size})
		}
	}
	for _, group := range groups(open) {
		if err := a.open(ctx, group, f); err != nil {
			return err
		}
	}
	return nil
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
	err := a.servers.pipelined(ctx, func(p redis.Pipeliner) {
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
func (a *auditor) open(ctx context.Context, group []entry, f *findings) error {
	values, err := a.servers.read(ctx, group)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, sc *scratch, i int) error {
		ns, key := "", group[i].name
		for candidate := range a.sealers {
			if rest, ok := strings.CutPrefix(group[i].name, candidate+":"); ok && candidate != "" {
				ns, key = candidate, rest
			}
		}
		_, n, _ := cacheHeader(values[i])
		_, err := openAny(ctx, sc, a.sealers[ns], true, key, values[i], n)
		return err
	}
	dataKey := func(i int) string {
		_, n, ok := cacheHeader(values[i])
		if !ok {
			return ""
		}
		return dataKeyOf(values[i][n:])
	}
	var sc scratch
	return byDataKey(ctx, len(values), dataKey, func(ctx context.Context, i int) { _ = open(ctx, new(scratch), i) }, func(i int) error {
		if _, _, ok := cacheHeader(values[i]); !ok {
			return nil // gone, or something else by now
		}
		err := open(ctx, &sc, i)
		switch size := int64(len(values[i])); {
		case err == nil:
		case refused(err):
			f.total.Unreadable.add(1, size)
			f.group(a.groupOf(group[i].name)).Unreadable.add(1, size)
			f.sample("unreadable", group[i].name, a.Samples)
		default:
			return err
		}
		return nil
	})
}
