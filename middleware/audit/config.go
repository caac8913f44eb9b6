package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
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
	// Exclude lists prefixes of names that are not examined, such as counters. The answers are about the rest, and
	// MayDestroy is never Yes. A prefix that cannot match is an error. One that matched nothing is reported.
	Exclude []string
	// OtherApplications lists prefixes of names that belong to other applications, which have other keys. These names
	// are not examined. They do not prevent a yes to MayDestroy.
	OtherApplications []string
	// GroupBy lists prefixes of names whose values are counted separately. The default is the text before the first
	// colon, if it looks like a namespace and has at least ten entries. So the report shows no whole names.
	GroupBy []string
	// Stored reports whether Prefix and the lists are of stored names, although Namespace is given.
	Stored bool

	// Keys are the keys of the sealed values of caches. If they are given, the audit counts the values that do not
	// open under any of them. It reads whole values instead of their starts.
	Keys []tink.AEADWithContext
	// Namespaces are the namespaces that values are bound to; Keys need them. A name belongs to the namespace that it
	// starts with, or to none. The default is Namespace.
	Namespaces []string

	// HiddenKeys are the PRF keys by which the applications hide names (middleware.WithHiddenKeys). The report then says which
	// values are under an older PRF key, or under none of them. Prefixes match the keys that are sealed in the values, so they
	// need Keys, and every value with a hidden name is opened.
	HiddenKeys *prf.Set
	// OneWayKeys are HiddenKeys for middleware.WithOneWayKeys. Prefixes are errors then.
	OneWayKeys *prf.Set

	// Samples is how many names the report shows of each kind of value that is not sealed or cannot be read. 0 is none. The
	// names of sealed values are never shown.
	Samples int
	// OneDatabase leaves out the other databases of the server. Without a Namespace or Prefix they are examined too.
	OneDatabase bool
	// Replica accepts a server that is a replica, which may lack what its master has. MayDestroy is then never Yes.
	Replica bool
	// IgnoreTypes lists types of Redis, such as "hash" and "list", whose entries do not cause the answer Unknown.
	// Give those that the applications use for other purposes. Strings are always examined. A name that is not one of Redis'
	// types, and cannot be that of a module's type, is an error.
	// Names of asynq are not covered: earlier releases of asynq kept payloads in lists and sets.
	IgnoreTypes []string

	// Rate bounds the names per second. 0 means no limit.
	Rate float64
	// BytesPerSecond bounds the bytes that are read if Keys are given. 0 means no limit.
	BytesPerSecond float64
	// MaxLatency pauses the audit while the 99th percentile of PING is longer. 0 means no limit.
	MaxLatency time.Duration
	// Control pauses the audit and changes its rate while it runs. Nil means none.
	Control *Control
	// Progress is called at the start, several times a second and at the end, by one goroutine at a time. Nil means none.
	Progress func(Progress)
	// Logger logs retries. The default is slog.Default().
	Logger *slog.Logger
}

// ErrConfig reports a Config with a missing, invalid or contradictory setting, or a client that cannot be used. Nothing was
// read.
var ErrConfig error = rediswalk.ConfigError("audit: invalid settings")

// ErrClusterNode reports a client for a single node that is connected to one node of a Cluster. It is an ErrConfig.
var ErrClusterNode = rediswalk.ErrClusterNode

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
	if c.Control != nil {
		c.Control.c.Attach(a.throttle)
	}
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
	namespaces := a.Namespaces
	if !slices.Contains(namespaces, a.Namespace) {
		namespaces = append(slices.Clone(namespaces), a.Namespace)
	}
	for _, ns := range namespaces {
		setting := "Config.Namespaces"
		if ns == a.Namespace {
			setting = "Config.Namespace"
		}
		if err := wire.CheckNamespace(ns); ns != "" && err != nil {
			bad("%s: %w", setting, err)
		}
	}
	if !(a.Rate >= 0) || !(a.BytesPerSecond >= 0) || a.MaxLatency < 0 || a.Samples < 0 {
		bad("Config.Rate, Config.BytesPerSecond, Config.MaxLatency and Config.Samples must not be negative")
	}
	for _, t := range a.IgnoreTypes {
		if err := rediscmd.CheckType(t); err != nil {
			bad("Config.IgnoreTypes: %w", err)
		}
	}
	if slices.ContainsFunc(a.Keys, func(k tink.AEADWithContext) bool { return nilcheck.IsNil(k) }) {
		bad("Config.Keys contains a nil key")
	}
	errs = append(errs, a.checkHidden()...)
	prefix := ""
	if a.Namespace != "" {
		prefix = a.Namespace + ":"
	}
	a.scope = prefix + a.Prefix
	if a.Stored && a.Prefix != "" {
		if a.scope = a.Prefix; !strings.HasPrefix(a.Prefix, prefix) {
			bad("Config.Prefix must start with Config.Namespace and a colon, because Config.Stored is set")
		}
	}
	if a.pattern = a.scope; a.opensNames() { // a hidden name does not start with the prefix of its key
		a.pattern = prefix
	}
	var err error
	if a.exclude, err = rediswalk.NewFilter("Config.Exclude", a.Exclude, a.Namespace, a.Stored, a.scope); err != nil {
		errs = append(errs, err)
	}
	if a.others, err = rediswalk.NewFilter("Config.OtherApplications", a.OtherApplications, a.Namespace, a.Stored, a.scope); err != nil {
		errs = append(errs, err)
	} else {
		for i, ns := range a.Namespaces {
			if a.others.Match(ns + ":") {
				bad("Config.OtherApplications covers Config.Namespaces[%d], which the audit examines", i)
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
