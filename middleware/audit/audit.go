package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// Config says what Audit looks at. The zero value counts all that the server holds without any key.
type Config struct {
	// Prefix narrows it to stored names that begin with it, taken literally: "shop:" for a namespace.
	Prefix string
	// Exclude are prefixes of stored names that are not looked at, as Config.Exclude leaves them alone: counters and so on.
	// The answers are about the rest, but that a key may be destroyed is not said then.
	Exclude []string
	// Foreign are prefixes of stored names of which the caller knows that they belong to others, who have other keys: they are
	// not looked at, and are no reason not to destroy a key. They are counted apart.
	OtherApplications []string
	// Keys, if there are any, must open what is sealed in caches; what none of them opens is counted as unreadable. That
	// reads every value as a whole, where otherwise the first bytes do.
	Keys []tink.AEADWithContext
	// Namespaces are those that values are bound to. An entry is in the one that its name begins with, and else in none.
	// They matter to Keys only.
	Namespaces []string
	// GroupBy are prefixes of stored names under which values are counted. None is by what stands before the first colon,
	// as far as it has the form of a namespace and at least ten entries: whole names are not shown.
	GroupBy []string
	// Samples is how many names to show of each kind of finding. 0 is none.
	Samples int
	// OneDatabase leaves out the other databases of the server, which are otherwise looked at too, where there is no Prefix.
	OneDatabase bool
	// Replica allows the server to be a replica, which is otherwise refused: it may lack what its master has. It does not
	// answer whether a key may be destroyed.
	Replica bool
	// IgnoreOtherTypes leaves entries that are not looked into out of the answers.
	IgnoreOtherTypes bool

	// Rate bounds the names per second. 0 is no bound.
	Rate float64
	// Progress is called several times a second and at the end, by one goroutine at a time. Nil is none.
	Progress func(Progress)
	// Logger is told what is tried again. The default is slog.Default().
	Logger *slog.Logger
}

// auditor is one audit.
type auditor struct {
	Config
	tuning  rediswalk.Tuning
	servers *rediswalk.Servers              // of the database that is being looked at
	sealers map[string][]*cachevalue.Sealer // by namespace, "" for none
	left    []int                           // databases that were not looked at

	mu        sync.Mutex
	scans     []*scan // one for each database
	databases int     // how many there are to be
}

// scan is that of one database.
type scan struct {
	database int
	walk     *rediswalk.Walk[*findings]
	found    map[*rediswalk.Track[*findings]]*findings // by master; guarded by walk.mu
}

const (
	// window is how much of a value is read to see what it is: header, length, a wrapped data key of up to some 290
	// bytes and the beginning of the payload. Key services wrap to less; what is longer is read again.
	window = 320
	// maxGroups and maxUnnamed bound what is counted apart.
	maxGroups  = 4096
	showGroups = 64
	minGroup   = 10
	maxUnnamed = 4096
)

const otherGroup = "(other)"

// tagPrefix begins the names of tag sets of gocache's Redis store, and of redisstore.
const tagPrefix = "gocache_tag_"

// ErrConfig says that a Config cannot be meant. Nothing was done.
var ErrConfig = errors.New("audit: wrong configuration")

// Progress is where an audit stands.
type Progress struct {
	Seen      int64
	Plaintext int64 // values
	// Fraction is the part of the scan that is done, from 0 to 1.
	Fraction float64
	Elapsed  time.Duration
	// Rate is names per second, over the last few calls. Remaining is 0 while it is not known.
	Rate      float64
	Remaining time.Duration
	// Final marks the last call.
	Final bool
}

// Audit counts what lies in Redis, and under which keys it is sealed. It reads only.
//
// The report is never nil once the config was accepted; with an error it is not Complete. It sees each entry that is there
// from beginning to end; those that come and go meanwhile it may miss, and SCAN may name some twice.
func Run(ctx context.Context, client redis.UniversalClient, c Config) (*Report, error) {
	a, err := newAuditor(ctx, client, c)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	stop := make(chan struct{})
	var background sync.WaitGroup
	if a.Progress != nil {
		background.Go(func() { a.keepProgress(started, stop) })
	}
	err = a.run(ctx)
	close(stop)
	background.Wait()
	return a.report(started, err == nil), err
}

// run looks at one database after the other.
func (a *auditor) run(ctx context.Context) error {
	others, err := a.servers.OtherDatabases(ctx)
	if err != nil {
		return err
	}
	selected := a.servers
	if a.Prefix != "" || a.OneDatabase {
		a.left, others = others, nil
	}
	a.mu.Lock()
	a.databases = 1 + len(others)
	a.mu.Unlock()
	if err := a.scan(ctx); err != nil {
		return err
	}
	for _, n := range others {
		other, err := selected.At(ctx, n)
		if err != nil {
			return err
		}
		if other == nil {
			a.left = append(a.left, n)
			continue
		}
		a.servers = other
		err = a.scan(ctx)
		_ = other.Client.Close()
		if err != nil {
			return err
		}
	}
	if len(others) == 0 {
		return nil
	}
	// What had been looked at before a restart may be something else after it.
	now, err := selected.RunID(ctx, selected.Client)
	if err == nil && now != a.scans[0].walk.Tracks[0].RunID {
		err = errors.New("audit: the server restarted or failed over between the scans of two databases: run it again")
	}
	return err
}

// scan looks at the database that is selected.
func (a *auditor) scan(ctx context.Context) error {
	s := &scan{database: a.servers.Database(), found: make(map[*rediswalk.Track[*findings]]*findings)}
	s.walk = &rediswalk.Walk[*findings]{
		Servers: a.servers,
		Pattern: rediswalk.Literal(a.Prefix) + "*",
		Tuning:  a.tuning,
		Log:     a.Logger,
		Work:    a.batch,
		Commit: func(t *rediswalk.Track[*findings], f *findings) {
			if f == nil {
				return
			}
			if s.found[t] == nil {
				s.found[t] = new(findings)
			}
			s.found[t].add(f, a.Samples)
		},
		Restart: func(t *rediswalk.Track[*findings]) { delete(s.found, t) },
	}
	if a.Rate > 0 {
		s.walk.Limiter = rate.NewLimiter(rate.Limit(a.Rate), a.tuning.BatchSize)
	}
	a.mu.Lock()
	a.scans = append(a.scans, s)
	a.mu.Unlock()
	return s.walk.Run(ctx, nil, "")
}

func newAuditor(ctx context.Context, client redis.UniversalClient, c Config) (*auditor, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if !(c.Rate >= 0) {
		bad("Rate: %v is not a number of entries per second", c.Rate)
	}
	if c.Samples < 0 {
		bad("Samples: %d is negative", c.Samples)
	}
	for _, ns := range c.Namespaces {
		if err := middleware.CheckNamespace(ns); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range c.Exclude {
		if p == "" {
			bad("Exclude: an empty prefix would exclude everything")
		}
	}
	for _, p := range c.OtherApplications {
		if p == "" {
			bad("OtherApplications: an empty prefix would leave everything out")
		}
		for _, ns := range c.Namespaces {
			if strings.HasPrefix(ns+":", p) {
				bad("OtherApplications: the namespace %q is among the names of others", ns)
			}
		}
	}
	if slices.ContainsFunc(c.Keys, cachevalue.IsNil) {
		bad("Keys has a nil")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s, err := rediswalk.New(client)
	if err != nil {
		return nil, err
	}
	s.AllowReplica, s.AllowUnwatched = c.Replica, true
	a := &auditor{Config: c, servers: s, tuning: rediswalk.TuningOf(ctx, c.Rate)}
	if len(c.Keys) > 0 {
		a.sealers = make(map[string][]*cachevalue.Sealer)
		for _, ns := range append([]string{""}, c.Namespaces...) {
			for _, k := range c.Keys {
				a.sealers[ns] = append(a.sealers[ns], cachevalue.NewSealer(k, ns))
			}
		}
	}
	return a, nil
}

// groupOf is the prefix under which a name is counted. What is not meant to be a prefix may be a whole name.
func (a *auditor) groupOf(name string) string {
	if len(a.GroupBy) > 0 {
		best := otherGroup
		for _, g := range a.GroupBy {
			if strings.HasPrefix(name, g) && (best == otherGroup || len(g) > len(best)) {
				best = g
			}
		}
		return best
	}
	first, _, ok := strings.Cut(name, ":")
	if !ok || middleware.CheckNamespace(first) != nil {
		return otherGroup
	}
	return first + ":"
}

func (a *auditor) keepProgress(started time.Time, stop <-chan struct{}) {
	tick := time.NewTicker(a.tuning.ProgressEvery)
	defer tick.Stop()
	var pace rediswalk.Pace
	report := func(final bool) {
		p := Progress{Final: final}
		a.mu.Lock()
		for _, s := range a.scans {
			s.walk.Mu.Lock()
			for _, t := range s.walk.Tracks {
				if f := s.found[t]; f != nil {
					p.Seen += f.seen
					p.Plaintext += f.total.Plaintext.Values
				}
			}
			p.Fraction += s.walk.Fraction() / float64(a.databases)
			s.walk.Mu.Unlock()
		}
		a.mu.Unlock()
		p.Elapsed = time.Since(started)
		p.Rate, p.Remaining = pace.Update(p.Elapsed, p.Seen, p.Fraction)
		a.Progress(p)
	}
	for {
		select {
		case <-stop:
			report(true)
			return
		case <-tick.C:
			report(false)
		}
	}
}

func (a *auditor) report(started time.Time, complete bool) *Report {
	r := &Report{
		Complete: complete, Started: started.UTC(), Elapsed: time.Since(started),
		Prefix: a.Prefix, Namespaces: a.Namespaces, OtherDatabases: a.left, OneDatabase: a.OneDatabase, Replica: a.Replica, Opened: len(a.Keys) > 0,
		IgnoredOtherTypes: a.IgnoreOtherTypes, Exclude: a.Exclude, OtherApplications: a.OtherApplications,
	}
	var all findings
	for _, s := range a.scans {
		s.walk.Mu.Lock()
		r.Databases = append(r.Databases, s.database)
		r.Masters, r.Restarts = len(s.walk.Tracks), r.Restarts+s.walk.Restarts
		for _, t := range s.walk.Tracks {
			r.Unwatched = r.Unwatched || t.RunID == ""
		}
		for _, t := range s.walk.Tracks {
			if f := s.found[t]; f != nil {
				all.add(f, a.Samples)
			}
		}
		s.walk.Mu.Unlock()
	}
	r.Excluded, r.OtherNames = all.excluded, all.foreign
	r.Seen, r.Total, r.Jobs, r.TagSets = all.seen, all.total, all.jobs, all.tagSets
	r.OtherTypes, r.Samples = all.others, all.samples
	for k, n := range all.keys {
		r.Keys = append(r.Keys, keyUse(k, *n))
	}
	sortKeys(r.Keys)
	r.Groups = a.shownGroups(&all)
	r.Doubts = r.plaintextDoubts()
	return r
}

// shownGroups are the largest; the rest are one.
func (a *auditor) shownGroups(all *findings) []Group {
	var shown []Group
	rest := Group{Prefix: otherGroup}
	for name, t := range all.groups {
		if name == otherGroup || len(a.GroupBy) == 0 && t.values() < minGroup {
			rest.add(t)
			continue
		}
		shown = append(shown, Group{name, *t})
	}
	slices.SortFunc(shown, func(x, y Group) int {
		if d := y.values() - x.values(); d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(x.Prefix, y.Prefix)
	})
	if len(a.GroupBy) == 0 && len(shown) > showGroups {
		for i := range shown[showGroups:] {
			rest.add(&shown[showGroups+i].Tally)
		}
		shown = shown[:showGroups]
	}
	if rest.values() > 0 {
		shown = append(shown, rest)
	}
	return shown
}
