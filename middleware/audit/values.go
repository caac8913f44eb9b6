package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// window is how much of a value is read to classify it. It covers header, length, a wrapped data key of up
	// to some 290 bytes and the start of the payload. Most key services wrap to less. Longer ones are read
	// again.
	window = 320
	// maxPeeked is how much of a value covers any header with any key.
	maxPeeked = wire.MaxHeaderSize + wire.MaxKeyBytes

	tagPrefix   = names.TagSets
	hyperLogLog = "HyperLogLog"
)

// peeked describes a value by its start.
type peeked struct {
	name  string
	size  int64
	start []byte
}

func (a *auditor) batch(ctx context.Context, names []string) (*findings, error) {
	f := &findings{seen: int64(len(names))}
	var values, jobs []string
	for _, name := range names {
		switch {
		case a.mayBeHidden(name):
			values = append(values, name)
		case !a.matches(name, f):
		case ofJobs(name):
			jobs = append(jobs, name)
		default:
			values = append(values, name)
		}
	}
	others, err := a.jobs(ctx, jobs, f)
	if err != nil {
		return nil, err
	}
	return f, a.caches(ctx, append(values, others...), f)
}

// caches examines entries that may be values of caches.
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
		case rediserr.Code(err) == "WRONGTYPE", rediserr.Code(err2) == "WRONGTYPE", err == nil && n == 0:
			others = append(others, name) // of another type, empty or missing
		case err != nil:
			return rediswalk.CallError("STRLEN", err)
		case err2 != nil:
			return rediswalk.CallError("GETRANGE", err2)
		case wire.IsSealed(start):
			sealed = append(sealed, peeked{name, n, start})
		case a.mayBeHidden(name) && !a.matches(name, f): // it is not hidden
		default:
			if err := a.unsealed(ctx, peeked{name, n, start}, f); err != nil {
				return err
			}
		}
	}
	if err := a.otherTypes(ctx, others, f); err != nil {
		return err
	}
	return a.sealed(ctx, sealed, f)
}

// otherTypes counts entries that are empty, missing or not strings.
func (a *auditor) otherTypes(ctx context.Context, names []string, f *findings) error {
	kinds, err := a.servers.Kinds(ctx, names)
	if err != nil {
		return err
	}
	for i, kind := range kinds {
		name := names[i]
		switch {
		case kind == "none":
		case a.mayBeHidden(name) && !a.matches(name, f):
		case kind == "string": // an empty one
			a.plaintext(peeked{name: name}, f)
		case ofJobs(name):
			if err := a.otherOfJobs(ctx, name, kind, f); err != nil {
				return err
			}
		case kind == "set" && strings.HasPrefix(name, tagPrefix):
			f.tagSets++
		case kind == "hash" && name == rediswalk.RunsName:
			if ok, err := a.readable(ctx, name, nil, f); err != nil {
				return err
			} else if !ok {
				continue
			}
			fields, err := a.servers.Client.HGetAll(ctx, name).Result()
			if err != nil {
				return rediswalk.CallError("HGETALL", err)
			}
			if rediswalk.IsRuns(fields) {
				f.runRecords++
				continue
			}
			fallthrough
		default:
			f.other(kind, 1)
			f.sample("of type "+kind, name, a.Samples)
		}
	}
	return nil
}

// otherOfJobs counts a collection of job queues that was not examined as one. An earlier release of asynq may have kept
// payloads there, so IgnoreTypes does not cover it.
func (a *auditor) otherOfJobs(ctx context.Context, name, kind string, f *findings) error {
	is, err := a.inRole(ctx, name, kind, nil, f) // it may have been empty a moment ago
	if err != nil {
		return jobsError(err)
	}
	if !is {
		f.notUnderstood(name, a.Samples)
	}
	return nil
}

// unsealed counts a value that does not start like a sealed one.
func (a *auditor) unsealed(ctx context.Context, v peeked, f *findings) error {
	if cachevalue.LooksHyperLogLog(v.start) && v.size <= cachevalue.MaxHyperLogLog {
		whole, err := a.servers.Read(ctx, []string{v.name})
		if err != nil {
			return err
		}
		if cachevalue.IsHyperLogLog(whole[0]) {
			f.other(hyperLogLog, 1)
			f.sample("of type "+hyperLogLog, v.name, a.Samples)
			return nil
		}
	}
	if cachevalue.IsFernet(v.start) {
		f.total.Fernet.add(1, v.size)
		f.groups.Of(a.groupOf(v.name)).Fernet.add(1, v.size)
		f.sample("Fernet tokens", v.name, a.Samples)
		return nil
	}
	a.plaintext(v, f)
	return nil
}

func (a *auditor) plaintext(v peeked, f *findings) {
	f.total.Plaintext.add(1, v.size)
	f.groups.Of(a.groupOf(v.name)).Plaintext.add(1, v.size)
	f.sample("plaintext", v.name, a.Samples)
}

func (a *auditor) unknownFormat(v peeked, f *findings) {
	f.total.UnknownFormat.add(1, v.size)
	f.groups.Of(a.groupOf(v.name)).UnknownFormat.add(1, v.size)
	f.sample("of unknown format", v.name, a.Samples)
}

// sealed examines values that start like sealed ones.
func (a *auditor) sealed(ctx context.Context, values []peeked, f *findings) error {
	if err := a.extend(ctx, values); err != nil {
		return err
	}
	var open []peeked
	for _, v := range values {
		if is, err := a.keyCheck(ctx, v, f); err != nil {
			return err
		} else if is {
			continue
		}
		_, n, ok := cachevalue.Header(v.start)
		if !ok || !cachevalue.Plausible(v.start[n:], v.size-int64(n)) {
			a.unknownFormat(v, f)
			continue
		}
		if a.keys != nil {
			open = append(open, v)
			continue
		}
		a.countSealed(v, n, sealedAs{name: v.name}, f)
	}
	return rediswalk.Groups(len(open), func(i int) int64 { return open[i].size }, func(from, to int) error {
		return a.open(ctx, open[from:to], f)
	})
}

// sealedAs holds what the audit knows about a sealed value.
type sealedAs struct {
	name       string // the stored name, or what it would be if names were not hidden
	unreadable bool
	notGiven   bool // because its key is not given
	posed      bool // see findings.countHidden
}

// countSealed counts a value with a header of n bytes.
func (a *auditor) countSealed(v peeked, n int, as sealedAs, f *findings) {
	g := f.groups.Of(a.groupOf(as.name))
	f.total.Sealed.add(1, v.size)
	g.Sealed.add(1, v.size)
	f.key(nameOf(v.start[n:]), v.size, as.unreadable)
	if h, _, ok := cachevalue.Header(v.start); ok {
		f.countHidden(h, v.size, as.unreadable, as.posed)
	}
	if as.notGiven {
		f.useOf(nameOf(v.start[n:])).NotGiven++
	}
	if as.unreadable {
		f.total.Unreadable.add(1, v.size)
		g.Unreadable.add(1, v.size)
		f.sample("unreadable", v.name, a.Samples)
	}
}

// extend reads more of the values whose wrapped data key does not fit into the window.
func (a *auditor) extend(ctx context.Context, values []peeked) error {
	var long []*peeked
	for i := range values {
		v := &values[i]
		_, n, err := wire.Parse(v.start)
		if err == nil && v.size > window && wire.KeyBytes(v.start[n:]) > len(v.start)-n {
			long = append(long, v)
		}
	}
	if len(long) == 0 {
		return nil
	}
	cmds := make([]*redis.StringCmd, len(long))
	err := a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, v := range long {
			cmds[i] = p.GetRange(ctx, v.name, 0, maxPeeked-1)
		}
	})
	if err != nil {
		return err
	}
	for i, v := range long {
		// If the entry has changed, these bytes are still one complete value.
		if b, err := cmds[i].Bytes(); err == nil && wire.IsSealed(b) {
			v.start = b
		}
	}
	return nil
}

// open opens sealed values of caches.
func (a *auditor) open(ctx context.Context, group []peeked, f *findings) error {
	names := make([]string, len(group))
	bytes := 0
	for i := range group {
		names[i] = group[i].name
		bytes += int(group[i].size)
	}
	if err := a.throttle.Bytes(ctx, bytes); err != nil {
		return err
	}
	values, err := a.servers.Read(ctx, names)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, i, n int) ([]byte, error) {
		ns, key := a.namespaceOf(group[i].name)
		plaintext, _, err := a.keys[ns].Open(ctx, false, key, values[i], n)
		return plaintext, err
	}
	dataKey := func(i int) string { return cachevalue.DataKey(values[i]) }
	ahead := func(ctx context.Context, i int) {
		if _, n, ok := cachevalue.Header(values[i]); ok {
			_, _ = open(ctx, i, n)
		}
	}
	return cachevalue.ByDataKey(ctx, len(values), dataKey, ahead, func(i int) error {
		now := peeked{group[i].name, int64(len(values[i])), values[i]}
		h, n, ok := cachevalue.Header(values[i])
		hidden := ok && h.Flags&wire.Hidden != 0
		switch {
		case values[i] == nil: // it is gone
			return nil
		case !hidden && a.mayBeHidden(now.name) && !a.matches(now.name, f):
			return nil
		case !wire.IsSealed(values[i]): // the application has written plaintext since the start of the value was read
			return a.unsealed(ctx, now, f)
		case !ok || !cachevalue.Plausible(values[i][n:], now.size-int64(n)):
			a.unknownFormat(now, f)
			return nil
		}
		plaintext, err := open(ctx, i, n)
		if err != nil && !box.Refused(err) {
			return fmt.Errorf("audit: cannot open a value: %w", err)
		}
		as := sealedAs{name: now.name, unreadable: err != nil, notGiven: box.NotGiven(err, wire.KeyOf(values[i][n:]))}
		if err == nil {
			if as.name, as.posed, err = a.plainNameOf(now.name, h, plaintext); err != nil {
				return err
			}
			if hidden && a.opensNames() && !a.matches(as.name, f) {
				return nil
			}
		}
		a.countSealed(now, n, as, f)
		return nil
	})
}

// keyCheck examines an entry under the reserved name of key checks. It reports false if the entry is something else.
func (a *auditor) keyCheck(ctx context.Context, v peeked, f *findings) (bool, error) {
	namespace, ok := keycheck.Namespace(v.name)
	if !ok {
		return false, nil
	}
	h, n, err := wire.Parse(v.start)
	if err != nil || h.Kind != wire.KeyCheck || v.size > int64(len(v.start)) {
		return false, nil //nolint:nilerr // other bytes under the name are counted like any value
	}
	f.keyChecks.Values++
	refused := len(a.Keys) > 0
	for _, k := range a.Keys {
		c, err := keycheck.New(k, namespace)
		if err != nil {
			return false, fmt.Errorf("audit: cannot open an entry named sealcache.key-check, which tests the keys: %w", err)
		}
		if err = cachevalue.Ask(ctx, func(ctx context.Context) error { return c.Open(ctx, v.start) }); err == nil {
			refused = false
			break
		}
		if !box.Refused(err) && !errors.Is(err, wire.ErrUnsupportedFormat) {
			return false, fmt.Errorf("audit: cannot open an entry named sealcache.key-check, which tests the keys: %w", err)
		}
	}
	if refused {
		f.keyChecks.Unreadable++
		f.key(nameOf(v.start[n:]), v.size, true)
		return true, nil
	}
	f.key(nameOf(v.start[n:]), v.size, false)
	return true, nil
}
