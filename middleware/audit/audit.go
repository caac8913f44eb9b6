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

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Config describes an audit. The zero value counts everything that the server holds, without any key.
type Config struct {
	// Namespace limits the audit to one namespace. Prefix, Exclude, OtherApplications and GroupBy are then prefixes of its
	// keys, as the application gives them. Without Namespace they are prefixes of stored names.
	Namespace string
	// Prefix limits the audit to names that start with it, literally.
	Prefix string
	// Exclude lists prefixes of names that are not looked at, such as counters. The answers are about the rest, and
	// MayDestroy is never Yes. A prefix that cannot match is an error. One that matched nothing is reported.
	Exclude []string
	// OtherApplications lists prefixes of names that belong to other applications, which have other keys. These names are
	// not looked at. They are no reason against destroying a key.
	OtherApplications []string
	// GroupBy lists prefixes of names whose values are counted apart. By default it is what stands before the first colon,
	// if that looks like a namespace and has at least ten entries, so that no whole name is shown.
	GroupBy []string
	// Stored says that Prefix and the lists are of stored names, although Namespace is given.
	Stored bool

	// Keys must open the sealed values of caches. The audit counts values that none of them opens, and reads every value
	// as a whole instead of its start.
	Keys []tink.AEADWithContext
	// Namespaces are those that values are bound to, for Keys. A name belongs to the namespace that it starts with, and
	// else to none. The default is Namespace.
	Namespaces []string

	// Samples is how many names the report shows of each kind of finding. 0 is none.
	Samples int
	// OneDatabase leaves out the other databases of the server. Without a Namespace or Prefix they are looked at too.
	OneDatabase bool
	// Replica accepts a server that is a replica, which may lack what its master has. MayDestroy is then never Yes.
	Replica bool
	// IgnoreTypes lists types of Redis, such as "hash" and "list", whose entries are no reason for Unknown. Give those that
	// the applications use for other purposes. Strings are always looked at.
	IgnoreTypes []string

	// Rate bounds the names per second. 0 is no bound.
	Rate float64
	// BytesPerSecond bounds the bytes that are read if Keys are given. 0 is no bound.
	BytesPerSecond float64
	// MaxLatency pauses the audit while the 99th percentile of PING is longer. 0 is no bound.
	MaxLatency time.Duration
	// Progress is called at the start, several times a second and at the end, by one goroutine at a time. Nil means none.
	Progress func(Progress)
	// Logger is told what is tried again. The default is slog.Default().
	Logger *slog.Logger
}

// ErrConfig reports a Config that cannot be meant, or a client that cannot be used. Nothing was read.
var ErrConfig = errors.New("audit: wrong configuration")

// ErrClusterNode reports a client for a single node that is connected to one node of a Cluster. It is an ErrConfig.
var ErrClusterNode = rediswalk.ErrClusterNode

// Progress is the state of an audit.
type Progress struct {
	Seen      int64 // names
	Plaintext int64 // values
	// Paused lists the reasons for which the audit is paused.
	Paused []string
	// Fraction is the part of the scan that is done, from 0 to 1, by the positions of the cursors.
	Fraction float64
	Elapsed  time.Duration
	// Rate is names per second, over the last few calls. Remaining is 0 while it is unknown.
	Rate      float64
	Remaining time.Duration
	// Final marks the last call.
	Final bool
}

// auditor is one audit.
type auditor struct {
	Config
	tuning    rediswalk.Tuning
	throttle  *rediswalk.Throttle
	scope     string             // what the stored names start with
	servers   *rediswalk.Servers // of the database that is being looked at
	exclude   *rediswalk.Filter
	others    *rediswalk.Filter
	groups    []string // prefixes of stored names
	keys      map[string]cachevalue.Keys
	untouched bool  // reads do not count as use of an entry
	left      []int // databases that were not looked at

	mu        sync.Mutex
	scans     []*scan // one for each database
	databases int     // how many there are to be
}

// scan is that of one database.
type scan struct {
	database int
	walk     *rediswalk.Walk[*findings]
}

// Run counts what lies in Redis. It accepts a client of a single node, of Sentinel or of a Cluster, and does not close it.
//
// The Report is never nil if the Config was accepted. After an error it is not Complete, and no answer of it reassures.
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
	watching, done := context.WithCancel(ctx)
	servers := a.servers // run may replace it
	background.Go(func() { rediswalk.Guard{MaxLatency: a.MaxLatency}.Watch(watching, servers, a.throttle) })
	err = a.run(ctx)
	done()
	close(stop)
	background.Wait()
	if errors.Is(err, rediswalk.ErrUnsuitable) {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return a.report(started, err == nil), err
}

// run looks at one database after the other.
func (a *auditor) run(ctx context.Context) error {
	if err := a.servers.Check(ctx); err != nil {
		return err
	}
	if other := a.servers.Untouched(ctx); other != nil {
		defer other.Client.Close()
		a.servers, a.untouched = other, true
	}
	others, err := a.servers.OtherDatabases(ctx)
	if err != nil {
		return err
	}
	selected := a.servers
	if a.scope != "" || a.OneDatabase {
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
	a.servers = selected
	if len(others) == 0 {
		return nil
	}
	// After a restart the first databases may hold something else.
	now, err := selected.RunID(ctx, selected.Client)
	if err == nil && now != a.scans[0].walk.Tracks[0].RunID {
		err = errors.New("audit: the server restarted between the scans of two databases (run it again)")
	}
	return err
}

// scan looks at the selected database.
func (a *auditor) scan(ctx context.Context) error {
	s := &scan{database: a.servers.Database()}
	s.walk = &rediswalk.Walk[*findings]{
		Servers:  a.servers,
		Pattern:  rediscmd.Pattern(a.scope),
		Tuning:   a.tuning,
		Throttle: a.throttle,
		Log:      a.Logger,
		Work:     a.batch,
		Merge: func(tally, f *findings) *findings {
			if tally == nil {
				tally = new(findings)
			}
			if f != nil {
				tally.add(f, a.Samples)
			}
			return tally
		},
	}
	a.mu.Lock()
	a.scans = append(a.scans, s)
	a.mu.Unlock()
	return s.walk.Run(ctx, nil, "")
}

func newAuditor(ctx context.Context, client redis.UniversalClient, c Config) (*auditor, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(c.Namespaces) == 0 && c.Namespace != "" {
		c.Namespaces = []string{c.Namespace}
	}
	a := &auditor{Config: c, tuning: rediswalk.TuningOf(ctx, c.Rate)}
	errs := a.check()
	s, err := rediswalk.New(client)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	s.AllowReplica, s.AllowUnwatched = c.Replica, true
	a.servers = s
	a.throttle = rediswalk.NewThrottle(c.Rate, c.BytesPerSecond, a.tuning.BatchSize)
	if len(c.Keys) == 0 {
		return a, nil
	}
	a.keys = make(map[string]cachevalue.Keys)
	for _, ns := range append([]string{""}, c.Namespaces...) {
		if a.keys[ns], err = cachevalue.NewKeys(ns, c.Keys...); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return a, nil
}

// check checks the Config, and makes the scope and the filters.
func (a *auditor) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, ns := range append(slices.Clone(a.Namespaces), a.Namespace) {
		if err := wire.CheckNamespace(ns); ns != "" && err != nil {
			errs = append(errs, err)
		}
	}
	if !(a.Rate >= 0) || !(a.BytesPerSecond >= 0) || a.MaxLatency < 0 || a.Samples < 0 {
		bad("Rate, BytesPerSecond, MaxLatency and Samples must not be negative")
	}
	for _, t := range a.IgnoreTypes {
		if t == "" || t == "string" || t == hyperLogLog || t == "none" {
			bad("IgnoreTypes: %q cannot be ignored", t)
		}
	}
	if slices.ContainsFunc(a.Keys, func(k tink.AEADWithContext) bool { return box.IsNil(k) }) {
		bad("Keys has a nil")
	}
	prefix := ""
	if a.Namespace != "" {
		prefix = a.Namespace + ":"
	}
	a.scope = prefix + a.Prefix
	if a.Stored && a.Prefix != "" {
		if a.scope = a.Prefix; !strings.HasPrefix(a.Prefix, prefix) {
			bad("Prefix is not a stored name of the namespace")
		}
	}
	var err error
	if a.exclude, err = rediswalk.NewFilter("Exclude", a.Exclude, a.Namespace, a.Stored, a.scope); err != nil {
		errs = append(errs, err)
	}
	if a.others, err = rediswalk.NewFilter("OtherApplications", a.OtherApplications, a.Namespace, a.Stored, a.scope); err != nil {
		errs = append(errs, err)
	} else {
		for i, ns := range a.Namespaces {
			if a.others.Match(ns + ":") {
				bad("OtherApplications covers Namespaces[%d]", i)
			}
		}
		a.others.Restore(make([]bool, len(a.OtherApplications)))
	}
	for _, g := range a.GroupBy {
		if !a.Stored {
			g = prefix + g
		}
		a.groups = append(a.groups, g)
	}
	return errs
}

// groupOf returns the prefix under which a name is counted. What does not look like a prefix may be a whole name.
func (a *auditor) groupOf(name string) string {
	if len(a.groups) > 0 {
		best := otherGroup
		for _, g := range a.groups {
			if strings.HasPrefix(name, g) && (best == otherGroup || len(g) > len(best)) {
				best = g
			}
		}
		return best
	}
	first, _, ok := strings.Cut(name, ":")
	if !ok || wire.CheckNamespace(first) != nil {
		return otherGroup
	}
	return first + ":"
}

// namespaceOf returns the namespace of a stored name and the key in it.
func (a *auditor) namespaceOf(name string) (namespace, key string) {
	for _, ns := range a.Namespaces {
		if rest, ok := strings.CutPrefix(name, ns+":"); ok {
			return ns, rest
		}
	}
	return "", name
}

func (a *auditor) keepProgress(started time.Time, stop <-chan struct{}) {
	tick := time.NewTicker(a.tuning.ProgressEvery)
	defer tick.Stop()
	var pace rediswalk.Pace
	report := func(final bool) {
		p := Progress{Final: final, Paused: a.throttle.Paused()}
		a.mu.Lock()
		for _, s := range a.scans {
			s.walk.Mu.Lock()
			for _, t := range s.walk.Tracks {
				if f := t.Tally; f != nil {
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
		report(false)
		select {
		case <-stop:
			report(true)
			return
		case <-tick.C:
		}
	}
}

func (a *auditor) report(started time.Time, complete bool) *Report {
	r := &Report{
		Schema:   reportSchema,
		Complete: complete, Started: started.UTC(), Elapsed: time.Since(started), Servers: a.servers.Addresses(),
		Namespace: a.Namespace, Prefix: a.scope, Namespaces: a.Namespaces, OtherDatabases: a.left, OneDatabase: a.OneDatabase,
		Replica: a.Replica, Opened: len(a.Keys) > 0, IgnoredTypes: a.IgnoreTypes, Exclude: a.Exclude,
		OtherApplications: a.OtherApplications, CountsAsUse: !a.untouched,
		UnmatchedExcludes: a.exclude.Unmatched(a.Exclude), UnmatchedApplications: a.others.Unmatched(a.OtherApplications),
	}
	var all findings
	for _, s := range a.scans {
		s.walk.Mu.Lock()
		r.Databases = append(r.Databases, s.database)
		r.Masters, r.Restarts = len(s.walk.Tracks), r.Restarts+s.walk.Restarts
		for _, t := range s.walk.Tracks {
			r.Unwatched = r.Unwatched || t.RunID == ""
			if t.Tally != nil {
				all.add(t.Tally, a.Samples)
			}
		}
		s.walk.Mu.Unlock()
	}
	r.Excluded, r.OtherNames = all.excluded, all.otherNames
	r.Seen, r.Total, r.Jobs, r.TagSets, r.KeyChecks = all.seen, all.total, all.jobs, all.tagSets, all.keyChecks
	r.RunRecords, r.OtherTypes, r.Samples = all.runRecords, all.others, all.samples
	for k, n := range all.keys {
		r.Keys = append(r.Keys, k.use(*n))
	}
	sortKeys(r.Keys)
	r.Groups = a.shownGroups(&all)
	r.Doubts = r.plaintextDoubts()
	return r
}

const (
	// maxGroups and maxUnnamed bound what is counted apart.
	maxGroups  = 4096
	showGroups = 64
	minGroup   = 10
	maxUnnamed = 4096

	otherGroup = "(other)"
)

// shownGroups returns the largest groups, and one of the rest.
func (a *auditor) shownGroups(all *findings) []Group {
	var shown []Group
	rest := Group{Prefix: otherGroup}
	for name, t := range all.groups {
		if name == otherGroup || len(a.groups) == 0 && t.values() < minGroup {
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
	if len(a.groups) == 0 && len(shown) > showGroups {
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

// keyCheck looks at an entry under the reserved name of key checks. It reports false if the entry is something else.
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
			return false, fmt.Errorf("audit: key check: %w", err)
		}
		if err = c.Open(ctx, v.start); err == nil {
			refused = false
			break
		}
		if !box.Refused(err) && !errors.Is(err, wire.ErrUnsupportedFormat) {
			return false, fmt.Errorf("audit: key check: %w", err)
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
