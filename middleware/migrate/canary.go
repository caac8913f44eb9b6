package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// What is written under other keys than the application's, or bound to another namespace than its, is lost to it. What
// it has sealed itself tells: the runbook has it seal before anything is migrated.
const (
	// canaryMost is how many sealed entries are tried before it is concluded that none opens.
	canaryMost = 100
	// canaryNames bounds the names that are looked at in search of them, or Config.Rate does, to a second's worth;
	// canaryCalls bounds the calls of SCAN, on each master.
	canaryNames = 20_000
	canaryCalls = 400
	// canaryBytes bounds the size of what is tried.
	canaryBytes = 1 << 20
)

// ErrNothingOpens says that of the sealed entries that were met not one opens: the keys are not the application's, or the
// namespace or prefix is not, or Config.Keys is a keyring where the application has an envelope. In what was found
// before anything was written, nothing was. See Config.AllowUnopened.
var ErrNothingOpens = errors.New("migrate: sealed entries were met and not one of them opens")

// canary tells whether the sealed entries of a space can be opened, by trying some.
type canary struct {
	what   string
	prefix string
	// key is that under which an entry is to open, and with what. It is not ok for a name that says nothing.
	key    func(stored string) (string, bool)
	opens  []*sealer
	second []*sealer // and if it does not open so, under second with secondKey
	other  func(stored string) string

	tried  int
	opened bool
}

// sing returns ErrNothingOpens if sealed entries of From, or of where names are moved to, can be found and none opens.
func (m *migration) sing(ctx context.Context) error {
	if m.AllowUnopened || m.counts.Opened > 0 {
		return nil
	}
	from := &canary{what: "From", prefix: m.From.stored(), opens: m.opens}
	from.key = func(stored string) (string, bool) {
		p, v := m.locate(stored)
		return p.key, v == nameTaken
	}
	if m.rebinds() && m.inPlace() {
		from.second = m.arrived
		from.other = func(stored string) string { p, _ := m.locate(stored); return p.toKey }
	}
	all := []*canary{from}
	if !m.inPlace() && m.Operation != Unseal && m.To.stored() != "" {
		to := &canary{what: "To", prefix: m.To.stored(), opens: m.arrived}
		to.key = func(stored string) (string, bool) {
			if _, v := m.locate(stored); v != nameForeign && v != nameArrived || !strings.HasPrefix(stored, to.prefix) {
				return "", false
			}
			return stored[len(m.To.namespace()):], true
		}
		all = append(all, to)
	}
	for _, c := range all {
		err := m.walk.patiently(ctx, "sealed entries to try the keys with", func(ctx context.Context) error {
			c.tried, c.opened = 0, false
			return m.servers.eachNode(ctx, func(ctx context.Context, node redis.Cmdable) error { return m.try(ctx, c, node) })
		})
		if err != nil {
			return fmt.Errorf("migrate: try the keys: %w", withoutNames(err))
		}
		if c.tried > 0 && !c.opened {
			return m.nothingOpens(c)
		}
	}
	return nil
}

func (m *migration) nothingOpens(c *canary) error {
	text := "(" + c.what + "): other keys than the application's, another namespace or prefix, or a keyring where it has an envelope"
	if c.what == "From" && m.From.Namespace == "" && strings.Contains(m.From.Prefix, ":") {
		text += "; if what the prefix begins with is the application's namespace, give it as that"
	}
	return &explained{text, ErrNothingOpens}
}

type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.cause.Error() + " " + e.text }
func (e *explained) Unwrap() error { return e.cause }

// try looks for sealed entries on one master until one of them opens.
func (m *migration) try(ctx context.Context, c *canary, node redis.Cmdable) error {
	var sc scratch
	cursor, looked, most := uint64(0), 0, canaryNames
	if m.Rate > 0 {
		most = max(int(min(m.Rate, canaryNames)), 1)
	}
	for range canaryCalls {
		if c.opened || c.tried >= canaryMost || looked >= most {
			return nil
		}
		names, next, err := node.Scan(ctx, cursor, literal(c.prefix)+"*", int64(m.BatchSize)).Result()
		if err != nil {
			return err
		}
		if m.walk.limiter != nil {
			if err := waitFor(ctx, m.walk.limiter, max(len(names), 1)); err != nil {
				return err
			}
		}
		looked += len(names)
		sealed, err := m.sealedAmong(ctx, c, names)
		if err != nil {
			return err
		}
		for _, group := range groups(sealed) {
			values, err := m.servers.read(ctx, group)
			if err != nil {
				return err
			}
			for i, v := range values {
				if c.opened || c.tried >= canaryMost {
					return nil
				}
				if err := c.open(ctx, m, &sc, group[i].name, v); err != nil {
					return err
				}
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
	return nil
}

// sealedAmong are the entries whose values begin as sealed ones do, and are not too large.
func (m *migration) sealedAmong(ctx context.Context, c *canary, names []string) ([]entry, error) {
	var starts []*redis.StringCmd
	var asked []string
	for _, name := range names {
		if _, ok := c.key(name); ok {
			asked = append(asked, name)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	err := m.servers.pipelined(ctx, func(p redis.Pipeliner) {
		for _, name := range asked {
			starts = append(starts, p.GetRange(ctx, name, 0, wire.HeaderSize))
		}
	})
	if err != nil {
		return nil, err
	}
	var sealed []entry
	for i, cmd := range starts {
		start, err := cmd.Bytes()
		if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, err
		}
		if _, _, ok := cacheHeader(start); ok {
			sealed = append(sealed, entry{name: asked[i]})
		}
	}
	if len(sealed) > canaryMost {
		sealed = sealed[:canaryMost]
	}
	sealed, err = m.measure(ctx, sealed, new(Counts))
	if err != nil {
		return nil, err
	}
	small := sealed[:0]
	for _, e := range sealed {
		if e.size <= canaryBytes {
			small = append(small, e)
		}
	}
	return small, nil
}

// open tries one value, which may be gone or another by now.
func (c *canary) open(ctx context.Context, m *migration, sc *scratch, name string, v []byte) error {
	_, n, ok := cacheHeader(v)
	key, mine := c.key(name)
	if !ok || !mine {
		return nil
	}
	current := m.keys.is(v[n:])
	_, err := openAny(ctx, sc, c.opens, current, key, v, n)
	if err != nil && refused(err) && c.second != nil {
		_, err = openAny(ctx, sc, c.second, current, c.other(name), v, n)
	}
	switch {
	case err == nil:
		c.opened = true
	case !refused(err):
		return err
	}
	c.tried++
	return nil
}

// eachNode calls f for each master, one after the other.
func (s *servers) eachNode(ctx context.Context, f func(ctx context.Context, node redis.Cmdable) error) error {
	if s.cluster == nil {
		return f(ctx, s.client)
	}
	var mu sync.Mutex
	return s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, c)
	})
}
