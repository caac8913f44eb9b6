package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// auditor is one audit.
type auditor struct {
	Config
	tuning    rediswalk.Tuning
	throttle  *rediswalk.Throttle
	scope     string // prefix of the stored names in the scope
	pattern   string // prefix of the names to scan
	filters   string // settings that are prefixes of keys, for errors
	names     map[string]*pseudonym.Set
	servers   *rediswalk.Servers // of the database that is being examined
	exclude   *rediswalk.Filter
	others    *rediswalk.Filter
	groups    []string // prefixes of stored names
	keys      map[string]cachevalue.Keys
	untouched bool  // reads do not count as use of an entry
	moved     bool  // see Report.Moved
	unwatched bool  // see Report.Unwatched
	left      []int // databases that were not examined

	mu        sync.Mutex
	scans     []*scan // one for each database
	databases int     // how many there are to be
}

// scan holds the state of the scan of one database.
type scan struct {
	database int
	walk     *rediswalk.Walk[findings]
}

// Run counts the entries in Redis. It accepts a client of a single node, of Sentinel or of a Cluster, and does not
// close it.
//
// The Report is never nil if the Config was accepted. After an error it is not Complete, and no answer is reassuring.
func Run(ctx context.Context, client redis.UniversalClient, c Config) (*Report, error) {
	a, err := newAuditor(ctx, client, c)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	end := rediswalk.Guard{MaxLatency: a.MaxLatency}.Start(ctx, a.servers, a.throttle, a.tuning.ProgressEvery, a.reporter(started))
	err = errtext.Guard(a.run(ctx)) // it may hold the cause of ctx, which the caller made
	end()
	if errors.Is(err, rediswalk.ErrUnsuitable) {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return a.report(started, err == nil), errtext.From("audit", err)
}

// run finds out what can be examined, and examines it.
func (a *auditor) run(ctx context.Context) error {
	if err := a.servers.Check(ctx); err != nil {
		return err
	}
	if other := a.servers.Untouched(ctx); other != nil {
		defer other.Client.Close()
		a.servers, a.untouched = other, true
	}
	selected := a.servers
	before, err := ask(ctx, a, selected.DatabaseMoves)
	if err != nil {
		return err
	}
	if err := a.examine(ctx); err != nil {
		return err
	}
	now, err := ask(ctx, a, selected.DatabaseMoves)
	a.moved = err == nil && now.Since(before)
	a.unwatched = a.unwatched || !selected.Clustered() && (before.Run == "" || now.Run == "")
	return err
}

// ask repeats a call of INFO after a transient failure.
func ask[T any](ctx context.Context, a *auditor, do func(ctx context.Context) (T, error)) (T, error) {
	return rediswalk.RetryValue(ctx, a.Logger, "INFO", do)
}

// examine examines one database after the other.
func (a *auditor) examine(ctx context.Context) error {
	selected := a.servers
	others, err := ask(ctx, a, selected.OtherDatabases)
	if a.unwatched = errors.Is(err, rediswalk.ErrNoInfo); err != nil && !a.unwatched {
		return err
	}
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
	// After a restart, the databases that were scanned first may hold other entries.
	now, err := ask(ctx, a, func(ctx context.Context) (string, error) { return selected.RunID(ctx, selected.Client) })
	if err == nil && now != a.scans[0].walk.Tracks[0].RunID {
		err = errors.New("audit: the server restarted between the scans of two databases (run the audit again)")
	}
	return err
}

// scan examines the selected database.
func (a *auditor) scan(ctx context.Context) error {
	s := &scan{database: a.servers.Database()}
	s.walk = &rediswalk.Walk[findings]{
		Servers:  a.servers,
		Pattern:  rediscmd.Pattern(a.pattern),
		Tuning:   a.tuning,
		Throttle: a.throttle,
		Log:      a.Logger,
		Work:     a.batch,
		Merge:    func(tally, f *findings) { tally.add(f, a.Samples) },
	}
	a.mu.Lock()
	a.scans = append(a.scans, s)
	a.mu.Unlock()
	return s.walk.Run(ctx, nil, "")
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

func (a *auditor) report(started time.Time, complete bool) *Report {
	r := &Report{
		Schema:   reportSchema,
		Complete: complete, Moved: a.moved, Unwatched: a.unwatched, Started: started.UTC(), Elapsed: time.Since(started), Servers: a.servers.Addresses(),
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
			all.add(&t.Tally, a.Samples)
		}
		s.walk.Mu.Unlock()
	}
	r.Excluded, r.OtherNames = all.excluded, all.otherNames
	r.Seen, r.Total, r.Jobs, r.TagSets, r.KeyChecks = all.seen, all.total, all.jobs, all.tagSets, all.keyChecks
	r.RunRecords, r.NotRead, r.OtherTypes, r.Samples = all.runRecords, all.notRead, all.others, all.samples
	for k, n := range all.keys {
		r.Keys = append(r.Keys, k.use(*n))
	}
	sortKeys(r.Keys)
	r.HiddenNames, r.GivenPRFKeys = a.hidden(&all), a.givenPRFKeys()
	r.Groups = a.shownGroups(&all)
	r.Doubts = r.plaintextDoubts()
	return r
}
