package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/strictjson"
	"github.com/sealcache/sealcache/middleware/audit"
)

// auditCommand is "audit".
type auditCommand struct {
	redis      redisFlag
	keys       dataKeyFlags
	hidden     prfFlags
	output     outputFlags
	namespaces namespaces
	prefix     string
	exclude    list
	others     list
	groups     list
	samples    int
	expect     string
	mayDestroy uint32
	mayDisable uint32
	since      string
	reload     time.Duration
	throttle   throttleFlags
	control    string

	ignoreTypes []string

	all, stored, open, oneDatabase, replica bool
}

func (a *auditCommand) declare(f *flags) {
	a.redis.declare(f)
	f.Var(&a.namespaces, "namespace", "`NAMESPACE` of the application's cache; with --all or --may-destroy, of each cache whose values --open opens (may be repeated)")
	f.fromEnv["namespace"] = "SEALCACHE_NAMESPACE"
	f.StringVar(&a.prefix, "prefix", "", "only cache keys that start with this `TEXT`, as the application gives them")
	f.BoolVar(&a.all, "all", false, "the whole server, with its other databases and the jobs")
	f.Var(&a.exclude, "exclude", "skip cache keys that start with this `TEXT`, as the application gives them; may be repeated")
	f.Var(&a.others, "other-applications", "skip names in Redis that start with this `TEXT` (cache keys if --namespace limits the audit): they belong to other applications, which have other encryption keys; may be repeated")
	f.BoolVar(&a.stored, "stored", false, "--prefix, --exclude, --other-applications and --group-by are names as Redis has them, with the namespace")
	f.BoolVar(&a.oneDatabase, "one-database", false, "with --all: leave out the other databases of the server")
	f.BoolVar(&a.replica, "replica", false, "allow the server to be a replica, which may lack entries of its master; not with --may-destroy")
	a.keys.declare(f)
	a.hidden.declare(f)
	f.BoolVar(&a.open, "open", false, "open every sealed value under --kek and --keyset, and count those that do not open")
	f.choice(&a.expect, "expect", "ask whether every value is sealed, or every value is plaintext, as after unseal", "sealed", "plaintext")
	f.Uint32Var(&a.mayDestroy, "may-destroy", 0, "ask whether the key with this `ID` may be destroyed; examines the whole server")
	f.Uint32Var(&a.mayDisable, "may-disable", 0, "ask whether the PRF key with this `ID` may be disabled, that is, whether no name is hidden under it")
	f.StringVar(&a.since, "not-primary-since", "", "with --may-destroy: `TIME` when the key stopped being primary, as 2030-01-31T12:00:00Z")
	f.DurationVar(&a.reload, "reload", 0, "with --may-destroy: longest `DURATION` until processes notice a new keyset; with a key service, the longest age of data keys (default 24h)")
	f.StringSliceVar(&a.ignoreTypes, "ignore-type", nil, "do not answer \"unknown\" because entries of this Redis `TYPE`, such as hash,list, are not examined")
	f.Var(&a.groups, "group-by", "count cache keys separately that start with this `TEXT`; may be repeated (default: by namespace)")
	f.IntVar(&a.samples, "samples", 0, "show up to this `NUMBER` of names for each kind of value that is not sealed or cannot be read; names of sealed values are never shown")
	a.throttle.declare(f)
	declareControl(f, &a.control)
	a.output.declare(f)
	f.need("namespace", "prefix", "all", "may-destroy")
}

func (a *auditCommand) whole(f *flags) bool { return a.all || f.Changed("may-destroy") }

// check finds flags that contradict each other.
func (a *auditCommand) check(f *flags) error {
	asks := f.Changed("may-destroy")
	switch {
	case f.Changed("expect") && asks:
		return wrong("--expect and --may-destroy cannot be used together")
	case f.Changed("may-disable") && (f.Changed("expect") || asks):
		return wrong("--may-disable cannot be used with --expect or --may-destroy")
	case f.Changed("may-disable") && !a.hidden.given():
		return wrong("--may-disable needs --hidden-keys or --one-way-keys")
	case !asks && (a.since != "" || a.reload != 0):
		return wrong("--not-primary-since and --reload need --may-destroy")
	case a.whole(f) && a.prefix != "":
		return wrong("--prefix cannot be used with --all or --may-destroy, which examine the whole server")
	case a.all && !asks && f.Changed("namespace") && len(a.namespaces) > 0 && !a.open:
		return wrong("--namespace with --all needs --open")
	case !a.whole(f) && len(a.namespaces) > 1:
		return wrong("--namespace may be repeated only with --open and --all, or with --open and --may-destroy")
	case !a.whole(f) && a.oneDatabase:
		return wrong("--one-database needs --all")
	case asks && a.replica:
		return wrong("--may-destroy needs the master: a replica may lack entries (leave out --replica)")
	case a.open && a.keys.kek == "":
		return wrong("missing for --open: %s", f.spell("kek"))
	}
	return errors.Join(a.checkKeys(f), a.checkHidden(f), checkTypes(a.ignoreTypes), f.notNegative("samples", "reload"), a.throttle.check(f), a.output.check(f), checkControl(a.control))
}

// checkKeys refuses flags for keys that the audit does not open.
func (a *auditCommand) checkKeys(f *flags) error {
	if a.open {
		return nil
	}
	asks := f.Changed("may-destroy")
	if asks && a.keys.kek == "" {
		if err := f.refuseWithout("--kek", "keyset", "keyset-name", "other-kek"); err != nil {
			return err
		}
	}
	if !asks {
		if err := f.refuseWithout("--open or --may-destroy", "keyset", "keyset-name"); err != nil {
			return err
		}
	}
	if !asks && !a.hidden.given() {
		if err := f.refuseWithout("--open, --may-destroy, --hidden-keys or --one-way-keys", "kek", "other-kek"); err != nil {
			return err
		}
	}
	return f.refuseWithout("--open", "keys-as", "wrap-context", "wrap-context-state", "tenant-keks", "tenant")
}

// checkHidden finds flags that select names although the names are hidden.
func (a *auditCommand) checkHidden(f *flags) error {
	filters := a.prefix != "" || len(a.exclude)+len(a.groups) > 0
	// Without a namespace, these are stored names outside of the caches, which are not hidden.
	others := len(a.others) > 0 && !a.whole(f) && len(a.namespaces) > 0 && a.namespaces[0] != ""
	switch {
	case a.hidden.hidden != "" && filters && !a.open:
		return wrong("with --hidden-keys, cache keys are sealed, so --prefix, --exclude and --group-by need --open")
	case a.hidden.hidden != "" && others && !a.open:
		return wrong("with --hidden-keys, cache keys are sealed, so --other-applications with --namespace needs --open")
	case a.hidden.oneWay != "" && others:
		return wrong("--one-way-keys with --namespace forbids --other-applications: Redis has only hashes of the cache keys")
	}
	return a.hidden.check(a.keys.kek, filters)
}

// checkTypes returns an error if a type of --ignore-type cannot match.
func checkTypes(types []string) error {
	for _, t := range types {
		if err := rediscmd.CheckType(t); err != nil {
			return wrong("--ignore-type: %w", err)
		}
	}
	return nil
}

// config returns the scope and settings of the audit.
func (a *auditCommand) config(p *program, f *flags) (audit.Config, error) {
	c := audit.Config{
		Namespaces: a.namespaces, Samples: a.samples, IgnoreTypes: a.ignoreTypes, OneDatabase: a.oneDatabase, Replica: a.replica,
		Rate: a.throttle.rate, BytesPerSecond: a.throttle.bytes, MaxLatency: a.throttle.latency, Logger: p.log,
	}
	s := scopeFlags{f: f, stored: a.stored}
	if !a.whole(f) && len(a.namespaces) > 0 {
		s.namespace = a.namespaces[0]
		c.Namespace = s.namespace
	}
	if a.whole(f) && len(a.namespaces) > 0 && len(a.exclude)+len(a.groups) > 0 && !a.stored {
		return c, wrong("with --all or --may-destroy: add --stored, and begin each value of --exclude and --group-by with a namespace")
	}
	var errs [4]error
	c.Prefix, errs[0] = s.key("prefix", a.prefix)
	c.Exclude, errs[1] = s.list("exclude", a.exclude)
	c.GroupBy, errs[2] = s.list("group-by", a.groups)
	c.OtherApplications, errs[3] = s.list("other-applications", a.others)
	return c, errors.Join(errs[:]...)
}

// openKeys opens the keys that the question needs, and completes the conditions.
func (a *auditCommand) openKeys(ctx context.Context, p *program, f *flags, c *audit.Config, conditions *audit.Conditions) (*opened, error) {
	asks := f.Changed("may-destroy")
	if !a.open && (!asks || a.keys.kek == "") {
		return new(opened), nil
	}
	to := toList
	if a.open {
		to = toOpen
	}
	keys, err := a.keys.open(ctx, p, to)
	if err != nil {
		return nil, err
	}
	if a.open {
		c.Keys = keys.both()
	}
	if keys.ring != nil {
		conditions.Keyset = keys.ring.Keys()
		known := keysetView{keys: infoOf(keys.ring)}
		if asks && known.key(a.mayDestroy) == nil {
			keys.close()
			return nil, errNoKey(a.mayDestroy)
		}
	}
	return keys, nil
}

func (a *auditCommand) run(ctx context.Context, p *program, f *flags) (int, error) {
	if err := a.check(f); err != nil {
		return 0, err
	}
	config, err := a.config(p, f)
	if err != nil {
		return 0, err
	}
	conditions := audit.Conditions{Reload: a.reload}
	if a.since != "" {
		if conditions.NotPrimarySince, err = time.Parse(time.RFC3339, a.since); err != nil {
			return 0, wrong("--not-primary-since: the value is not a time such as 2030-01-31T12:00:00Z")
		}
		if time.Until(conditions.NotPrimarySince) > time.Minute { // clocks differ
			return 0, wrong("--not-primary-since: the time is in the future")
		}
	}
	keys, err := a.openKeys(ctx, p, f, &config, &conditions)
	if err != nil {
		return 0, err
	}
	defer keys.close()
	if config.HiddenKeys, config.OneWayKeys, err = a.hidden.open(ctx, p, a.keys.kek, a.keys.others); err != nil {
		return 0, err
	}
	if f.Changed("may-disable") && !includes(config, a.mayDisable) {
		return 0, wrong("the PRF keyset has no enabled key %d (\"sealcache keys list\" shows the ids)", a.mayDisable)
	}
	before := infoOf(keys.ring)
	client, err := a.redis.open(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	h := newHeader(f).at(&a.redis, client, before)
	config.Control = new(audit.Control)
	show, done := a.output.follow(p, a.control, config.Control)
	defer done()
	config.Progress = func(s audit.Progress) { show(auditProgress(h.Command, s)) }
	report, err := audit.Run(ctx, client, config)
	done()
	if report == nil || err != nil {
		return 0, err
	}
	answer := a.answer(f, report, conditions)
	answer.Digest = keys.digest
	if err := a.output.write(p, h, answer, func(w io.Writer) error { return answer.text(w, before) }); err != nil {
		return 0, err
	}
	return answer.status(), nil
}

// includes reports whether the PRF keys of an audit include one.
func includes(c audit.Config, id uint32) bool {
	set := cmp.Or(c.HiddenKeys, c.OneWayKeys)
	return set != nil && set.PRFs[id] != nil
}

func auditProgress(command string, s audit.Progress) progress {
	return progress{
		Command: command, Paused: s.Paused, Fraction: s.Fraction, Seen: s.Seen, Plaintext: &s.Plaintext,
		PerSecond: s.Rate, Elapsed: s.Elapsed.Seconds(), Remaining: s.Remaining.Seconds(), final: s.Final,
	}
}

// questionPlaintext is the question whose answer no says that everything is sealed.
const questionPlaintext = "Is any value plaintext?"

// auditAnswer is the answer of an audit to its question. Its JSON has the fields of the report, too.
type auditAnswer struct {
	report     *audit.Report
	Question   string       `json:"question"`
	MayDestroy *uint32      `json:"may_destroy,omitempty"` // the key that the question is about
	MayDisable *uint32      `json:"may_disable,omitempty"` // the PRF key that the question is about
	Answer     audit.Answer `json:"answer"`
	Reasons    []string     `json:"reasons,omitempty"`
	Scope      string       `json:"scope"`
	// Digest is the digest of the sealed keyset's bytes. It changes with every change of the keyset.
	Digest string `json:"sealed_keyset_sha256,omitempty"`

	good audit.Answer
}

// MarshalJSON adds the fields of the report.
func (a *auditAnswer) MarshalJSON() ([]byte, error) {
	return merge((*auditFields)(a), a.report)
}

// auditFields is auditAnswer without its method.
type auditFields auditAnswer

// auditFile is a report of an audit that was written as JSON. The header's fields come before those of the report, as in merge.
type auditFile struct {
	header
	auditFields
	reportFields
	Elapsed float64 `json:"elapsed_seconds"` // see Report.MarshalJSON
}

type reportFields struct{ audit.Report }

// parse reports whether data is a report. It refuses members that this release does not know.
func (a *auditFile) parse(data []byte) bool {
	return strictjson.Unmarshal(data, a) == nil
}

// answer answers the question of the flags.
func (a *auditCommand) answer(f *flags, report *audit.Report, conditions audit.Conditions) *auditAnswer {
	full := &auditAnswer{report: report, Scope: report.Scope(), good: audit.No}
	switch {
	case f.Changed("may-destroy"):
		full.Question, full.good, full.MayDestroy = fmt.Sprintf("May key %d be destroyed?", a.mayDestroy), audit.Yes, &a.mayDestroy
		full.Answer, full.Reasons = report.MayDestroy(a.mayDestroy, conditions)
	case f.Changed("may-disable"):
		full.Question, full.good, full.MayDisable = fmt.Sprintf("May PRF key %d be disabled?", a.mayDisable), audit.Yes, &a.mayDisable
		full.Answer, full.Reasons = report.MayDisable(a.mayDisable)
	case a.expect == "plaintext":
		full.Question = "Is any value sealed?"
		full.Answer, full.Reasons = report.AnythingSealed()
	default:
		full.Question = questionPlaintext
		full.Answer, full.Reasons = report.AnythingPlaintext()
	}
	full.Reasons, report.Doubts = flagged(full.Reasons), flagged(report.Doubts)
	return full
}

func (a *auditAnswer) text(w io.Writer, keyset []keyInfo) error {
	if err := a.report.WriteText(w); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", a.Question, strings.ToUpper(string(a.Answer)))
	for _, r := range a.Reasons {
		fmt.Fprintf(&b, "  %s\n", r)
	}
	if a.MayDestroy != nil && a.Answer == audit.Yes {
		k := (&keysetView{keys: keyset}).key(*a.MayDestroy)
		if k != nil && k.Status != statusDisabled {
			fmt.Fprintf(&b, "  The key is not disabled. For \"sealcache keys destroy --audited\", disable it and audit again.\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *auditAnswer) status() int {
	switch a.Answer {
	case a.good:
		if a.report.Unmatched() {
			return exitLeft
		}
		return exitDone
	case audit.Unknown:
		return exitUnknown
	default:
		return exitLeft
	}
}
