package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// PlanConfig describes an inventory. The zero value describes the whole database.
type PlanConfig struct {
	// From, Exclude, Stored, LeaveNumbers and MaxValueBytes are as in Config.
	From          Space
	Exclude       []string
	Stored        bool
	LeaveNumbers  bool
	MaxValueBytes int
	// Overhead is how many bytes sealing adds to a value. The default is 107, that of an envelope under a local KEK.
	Overhead int
	// Largest is how many of the largest values the inventory names. 0 is none.
	Largest int

	// Rate, MaxLatency, Control, Progress and Logger are as in Config. Progress carries no count but Seen.
	Rate       float64
	MaxLatency time.Duration
	Control    *Control
	Progress   func(Progress)
	Logger     *slog.Logger
}

// Form is the apparent form of a value, by its bytes and OBJECT ENCODING.
type Form string

// The forms. INCR, APPEND and SETBIT work on plaintext only, so values of FormInteger, FormFloat and FormModified may break
// when they are sealed. So may short tokens, which are often locks.
const (
	FormSealed      Form = "sealed"
	FormJSON        Form = "json"
	FormMsgPack     Form = "msgpack"
	FormText        Form = "text"
	FormInteger     Form = "integer"
	FormFloat       Form = "float"
	FormToken       Form = "short token"
	FormModified    Form = "modified in place" // by APPEND, SETRANGE or SETBIT
	FormFernet      Form = "fernet"
	FormHyperLogLog Form = "hyperloglog"
	FormUnknown     Form = "unknown format" // starts like a sealed value, and is none; Seal leaves it
	FormBinary      Form = "binary"
)

// PlanCount is a number of entries, their bytes, and how many of them never expire.
type PlanCount struct {
	Values   int64 `json:"values"`
	Bytes    int64 `json:"bytes"`
	NoExpiry int64 `json:"no_expiry"`
}

// PlanGroup counts the entries under one prefix.
type PlanGroup struct {
	Prefix string             `json:"prefix"`
	Forms  map[Form]PlanCount `json:"forms,omitempty"`
	Types  map[string]int64   `json:"types,omitempty"` // other types of Redis
}

// LargeValue is one of the largest values.
type LargeValue struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Inventory is what Plan found. It names keys only if PlanConfig.Largest asks for them. In JSON, names have the form that
// audit.Report describes.
type Inventory struct {
	Schema    int           `json:"schema"`
	Servers   []string      `json:"servers"`
	Databases []int         `json:"databases"`
	From      string        `json:"from"`
	Complete  bool          `json:"complete"`
	Elapsed   time.Duration `json:"-"` // elapsed_seconds in JSON
	Seen      int64         `json:"seen"`
	Excluded  int64         `json:"excluded"`
	Reserved  int64         `json:"reserved"` // of asynq and this module
	// CountsAsUse is as in audit.Report.
	CountsAsUse bool `json:"counts_as_use"`
	// WouldSeal is what Seal would seal, and Growth the bytes that this adds.
	WouldSeal PlanCount `json:"would_seal"`
	Growth    int64     `json:"growth"`
	TooLarge  int64     `json:"too_large"`
	// Groups are by the text before the first colon of a key, the largest first. The last one holds the rest.
	Groups  []PlanGroup  `json:"groups"`
	Largest []LargeValue `json:"largest,omitempty"`
	// UnmatchedExcludes are the prefixes of Exclude that matched no key.
	UnmatchedExcludes []string `json:"unmatched_excludes,omitempty"`
	// Obstacles are the reasons that would stop a run or make it harmful: EVAL that is not allowed, too little
	// memory, eviction.
	Obstacles []string `json:"obstacles,omitempty"`
}

// MarshalJSON adds Elapsed in seconds, and quotes names that need it.
func (i Inventory) MarshalJSON() ([]byte, error) {
	i.From, i.UnmatchedExcludes = names.JSON(i.From), names.AllJSON(i.UnmatchedExcludes)
	i.Groups, i.Largest = slices.Clone(i.Groups), slices.Clone(i.Largest)
	for n := range i.Groups {
		i.Groups[n].Prefix = names.JSON(i.Groups[n].Prefix)
	}
	for n := range i.Largest {
		i.Largest[n].Name = names.JSON(i.Largest[n].Name)
	}
	type fields Inventory
	return json.Marshal(struct {
		fields
		Elapsed float64 `json:"elapsed_seconds"`
	}{fields(i), i.Elapsed.Seconds()})
}

const (
	planOverhead = 107
	planGroups   = 50
	planWindow   = 512 // bytes of each value that are read
	planToken    = 64  // longest short token
)

// planTally holds the counts of one master.
type planTally struct {
	Inventory
	groups names.Groups[PlanGroup]
	blind  bool // OBJECT ENCODING was refused
}

// Plan reads the start of every entry and counts what a migration would do. It changes nothing and needs no key.
func Plan(ctx context.Context, client redis.UniversalClient, c PlanConfig) (*Inventory, error) {
	config := Config{From: c.From, Exclude: c.Exclude, Stored: c.Stored}
	exclude, err := config.excluded()
	if !(c.Rate >= 0) || c.MaxLatency < 0 { // NaN too
		err = errors.Join(err, errors.New("Config.Rate and Config.MaxLatency must not be negative"))
	}
	if c.MaxValueBytes < 0 || c.Overhead < 0 || c.Largest < 0 {
		err = errors.Join(err, errors.New("Config.MaxValueBytes, Config.Overhead and Config.Largest must not be negative"))
	}
	if e := c.From.check(); e != nil {
		err = errors.Join(err, fmt.Errorf("Config.From.Namespace: %w", e))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	s, err := rediswalk.New(client)
	if err == nil {
		err = s.Check(ctx)
	}
	if err != nil {
		return nil, errtext.From("migrate", suitable(err))
	}
	p := &planner{PlanConfig: c, config: config, servers: s, exclude: exclude, started: time.Now()}
	if p.Logger == nil {
		p.Logger = slog.Default()
	}
	if p.MaxValueBytes == 0 {
		p.MaxValueBytes = defaultMaxValueBytes
	}
	if p.Overhead == 0 {
		p.Overhead = planOverhead
	}
	if other := s.Untouched(ctx); other != nil {
		defer other.Client.Close()
		p.servers, p.untouched = other, true
	}
	return p.run(ctx)
}

type planner struct {
	PlanConfig
	config  Config
	servers *rediswalk.Servers
	exclude *rediswalk.Filter
	started time.Time
	// untouched reports whether reads leave the idle times of entries unchanged.
	untouched bool
}

func (p *planner) run(ctx context.Context) (*Inventory, error) {
	tuning := rediswalk.TuningOf(ctx, p.Rate)
	throttle := rediswalk.NewThrottle(p.Rate, 0, tuning.BatchSize)
	if p.Control != nil {
		p.Control.c.Attach(throttle)
	}
	w := &rediswalk.Walk[planTally]{
		Servers: p.servers, Pattern: rediscmd.Pattern(p.From.stored()), Tuning: tuning, Log: p.Logger,
		Throttle: throttle,
		Work:     p.batch,
		Merge:    func(tally, t *planTally) { tally.add(t, p.Largest) },
	}
	end := rediswalk.Guard{MaxLatency: p.MaxLatency}.Start(ctx, p.servers, throttle, tuning.ProgressEvery, p.reporter(w))
	err := w.Run(ctx, nil, "")
	end()
	all := new(planTally)
	w.Mu.Lock()
	for _, t := range w.Tracks {
		all.add(&t.Tally, p.Largest)
	}
	w.Mu.Unlock()
	r := &all.Inventory
	r.Schema, r.Servers, r.Databases, r.From = reportSchema, p.servers.Addresses(), []int{p.servers.Database()}, p.From.stored()
	r.Complete, r.Elapsed, r.Groups = err == nil, time.Since(p.started), all.shown()
	r.UnmatchedExcludes, r.CountsAsUse = p.exclude.Unmatched(p.Exclude), !p.untouched
	if err == nil {
		r.Obstacles, err = p.obstacles(ctx, r.Growth)
		if all.blind {
			r.Obstacles = append(r.Obstacles, "the plan cannot find values that APPEND or SETBIT changed, because Redis refused OBJECT ENCODING")
		}
	}
	return r, errtext.From("migrate", suitable(err)) // it may hold the cause of ctx
}

// obstacles are what would stop a run.
func (p *planner) obstacles(ctx context.Context, growth int64) (all []string, err error) {
	p.config.DryRun = true
	m := &migration{Config: p.config, servers: p.servers, walk: &rediswalk.Walk[Counts]{Log: p.Logger}}
	if err := m.proveCommands(ctx); err != nil {
		if !rediserr.IsReply(err) {
			return nil, err
		}
		all = append(all, err.Error())
	}
	states, err := m.states(ctx)
	if err != nil {
		return all, err
	}
	each := growth / int64(max(len(states), 1))
	for _, s := range states {
		if s.MaxMemory > 0 && s.UsedMemory+each > int64(memoryShare*float64(s.MaxMemory)) {
			all = append(all, fmt.Sprintf("a master would reach maxmemory (policy %s): it uses %d of %d bytes and needs %d more", s.Policy, s.UsedMemory, s.MaxMemory, each))
		}
	}
	return all, nil
}

func (p *planner) batch(ctx context.Context, names []string) (*planTally, error) {
	t := new(planTally)
	var keys []string
	for _, name := range names {
		_, v := p.config.locate(p.exclude, name)
		t.Seen++
		switch v {
		case nameExcluded:
			t.Excluded++
		case nameReserved:
			t.Reserved++
		default:
			keys = append(keys, name)
		}
	}
	starts, sizes := make([]*redis.StringCmd, len(keys)), make([]*redis.IntCmd, len(keys))
	encodings, ttls := make([]*redis.StringCmd, len(keys)), make([]*redis.Cmd, len(keys))
	err := p.servers.Pipelined(ctx, func(pipe redis.Pipeliner) {
		for i, name := range keys {
			starts[i], sizes[i] = pipe.GetRange(ctx, name, 0, planWindow-1), pipe.StrLen(ctx, name)
			encodings[i], ttls[i] = pipe.ObjectEncoding(ctx, name), pipe.Do(ctx, "pttl", name)
		}
	})
	if err != nil {
		return nil, err
	}
	var others []string
	for i, name := range keys {
		start, err := starts[i].Bytes()
		left, noTTL := ttls[i].Int64()
		switch {
		case rediserr.Code(err) == "WRONGTYPE":
			others = append(others, name)
		case err != nil:
			return nil, rediswalk.CallError("GETRANGE", err)
		case sizes[i].Err() != nil && rediserr.Code(sizes[i].Err()) != "WRONGTYPE":
			return nil, rediswalk.CallError("STRLEN", sizes[i].Err())
		case noTTL != nil:
			return nil, rediswalk.CallError("PTTL", noTTL)
		case rediserr.IsReply(encodings[i].Err()) && !rediserr.Unavailable(encodings[i].Err()):
			return nil, rediswalk.CallError("OBJECT ENCODING", encodings[i].Err())
		case left == -2: // it is gone
		default:
			t.blind = t.blind || rediserr.IsReply(encodings[i].Err())
			if cachevalue.LooksHyperLogLog(start) && sizes[i].Val() <= cachevalue.MaxHyperLogLog { // only the whole value decides
				whole, err := p.servers.Read(ctx, []string{name})
				if err != nil {
					return nil, err
				}
				if start = whole[0]; start == nil { // it is gone
					continue
				}
			}
			p.value(t, name, start, sizes[i].Val(), encodings[i].Val(), left < 0)
		}
	}
	kinds, err := p.servers.Kinds(ctx, others)
	for i, kind := range kinds {
		if g := t.groups.Of(p.prefixOf(others[i])); kind != "none" {
			g.other(kind, 1)
		}
	}
	return t, err
}

func (p *planner) value(t *planTally, name string, start []byte, size int64, encoding string, forever bool) {
	form := formOfValue(start, size, encoding)
	count := PlanCount{Values: 1, Bytes: size}
	if forever {
		count.NoExpiry = 1
	}
	g := t.groups.Of(p.prefixOf(name))
	g.count(form, count)
	switch {
	case form == FormSealed, form == FormUnknown, form == FormHyperLogLog, form == FormInteger && p.LeaveNumbers:
	case size > int64(p.MaxValueBytes):
		t.TooLarge++
	default:
		t.WouldSeal = t.WouldSeal.plus(count)
		t.Growth += int64(p.Overhead)
	}
	if p.Largest > 0 {
		t.Largest = append(t.Largest, LargeValue{name, size})
		t.trim(p.Largest)
	}
}

func (p *planner) prefixOf(name string) string {
	if group, ok := names.Group(name[len(p.From.namespace()):]); ok {
		return group
	}
	return names.Other
}

// formOfValue derives the form of a value from its start, its size and OBJECT ENCODING. Redis keeps a short value that was
// only set as "embstr" or "int", and one that was changed in place as "raw".
func formOfValue(start []byte, size int64, encoding string) Form {
	const embedded = 44 // longest embstr
	whole := size == int64(len(start))
	switch {
	case wire.IsSealed(start):
		if _, n, ok := cachevalue.Header(start); !ok || !cachevalue.Plausible(start[n:], size-int64(n)) {
			return FormUnknown
		}
		return FormSealed
	case cachevalue.IsHyperLogLog(start):
		return FormHyperLogLog
	case cachevalue.IsFernet(start):
		return FormFernet
	case whole && cachevalue.IsNumber(start):
		return FormInteger
	case encoding == "raw" && size > 0 && size <= embedded:
		return FormModified
	case whole && isFloat(start):
		return FormFloat
	case len(start) > 0 && strings.ContainsAny(string(start[:1]), `{["`) && (!whole || json.Valid(start)):
		return FormJSON
	case isPrintable(start):
		if size <= planToken && !strings.ContainsAny(string(start), " \n\t") {
			return FormToken
		}
		return FormText
	case start[0] >= 0x80 && start[0] <= 0x9f || start[0] >= 0xc0 && start[0] <= 0xdf: // maps, arrays and typed values
		return FormMsgPack
	default:
		return FormBinary
	}
}

func isFloat(b []byte) bool {
	_, err := strconv.ParseFloat(string(b), 64)
	return err == nil
}

func isPrintable(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f }) &&
		strings.ToValidUTF8(string(b[:max(len(b)-3, 0)]), "") == string(b[:max(len(b)-3, 0)]) // the window may cut a rune
}

func (c PlanCount) plus(o PlanCount) PlanCount {
	return PlanCount{c.Values + o.Values, c.Bytes + o.Bytes, c.NoExpiry + o.NoExpiry}
}

func (t *planTally) add(o *planTally, largest int) {
	t.Seen += o.Seen
	t.Excluded += o.Excluded
	t.Reserved += o.Reserved
	t.WouldSeal = t.WouldSeal.plus(o.WouldSeal)
	t.Growth += o.Growth
	t.TooLarge += o.TooLarge
	t.blind = t.blind || o.blind
	for prefix, g := range o.groups {
		t.groups.Of(prefix).merge(g)
	}
	t.Largest = append(t.Largest, o.Largest...)
	t.trim(largest)
}

func (g *PlanGroup) merge(o *PlanGroup) {
	for f, c := range o.Forms {
		g.count(f, c)
	}
	for kind, n := range o.Types {
		g.other(kind, n)
	}
}

func (g *PlanGroup) count(form Form, c PlanCount) {
	if g.Forms == nil {
		g.Forms = make(map[Form]PlanCount)
	}
	g.Forms[form] = g.Forms[form].plus(c)
}

func (g *PlanGroup) other(kind string, n int64) {
	if g.Types == nil {
		g.Types = make(map[string]int64)
	}
	g.Types[kind] += n
}

func (t *planTally) trim(largest int) {
	if len(t.Largest) > largest {
		slices.SortFunc(t.Largest, func(a, b LargeValue) int { return int(b.Bytes - a.Bytes) })
		t.Largest = t.Largest[:largest]
	}
}

func (g *PlanGroup) values() (n int64) {
	for _, c := range g.Forms {
		n += c.Values
	}
	for _, c := range g.Types {
		n += c
	}
	return n
}

// shown returns the largest groups. Groups with few entries may be whole names, and join the rest.
func (t *planTally) shown() []PlanGroup {
	const few = 10
	largest, others := t.groups.Largest(planGroups, few, (*PlanGroup).values)
	var shown []PlanGroup
	for _, prefix := range largest {
		g := t.groups[prefix]
		g.Prefix = prefix
		shown = append(shown, *g)
	}
	rest := PlanGroup{Prefix: names.Other}
	for _, prefix := range others {
		rest.merge(t.groups[prefix])
	}
	if rest.values() > 0 {
		shown = append(shown, rest)
	}
	return shown
}
