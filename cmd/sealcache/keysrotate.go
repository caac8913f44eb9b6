package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
)

// duration is a flag of a duration that may be given in days.
type duration struct{ time.Duration }

func (d *duration) Type() string { return "DURATION" }

func (d *duration) Set(s string) error {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errors.New("the value is not a duration such as 90d or 48h")
		}
		d.Duration = time.Duration(n) * 24 * time.Hour
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("the value is not a duration such as 90d or 48h")
	}
	d.Duration = v
	return nil
}

func (d *duration) String() string {
	if d.Duration == 0 {
		return ""
	}
	return d.Duration.String()
}

// keysRotate is "keys rotate".
type keysRotate struct {
	keys          keysetFlags
	every, settle duration
	disableUnused bool
	stores        []string
	ignoreTypes   []string
	json          bool
}

func (k *keysRotate) declare(f *flags) {
	k.keys.declare(f)
	f.Var(&k.every, "every", "add a new key when the primary key is this old, such as 90d")
	k.settle.Duration = 48 * time.Hour
	f.Var(&k.settle, "settle", "time until every process has read a changed keyset; a new key is promoted after this time")
	f.BoolVar(&k.disableUnused, "disable-unused", false, "disable former keys under which no value in the Redis of any --store is sealed; \"sealcache keys enable\" reverses it")
	f.StringArrayVar(&k.stores, "store", nil, "`URL` of a Redis that may hold values under the keys; repeat the flag for each Redis")
	f.StringSliceVar(&k.ignoreTypes, "ignore-type", nil, "accept the audit although entries of this Redis `TYPE` are not examined, such as hash,list")
	f.BoolVar(&k.json, "json", false, jsonUse)
	f.need("every")
}

// rotationReport is the report of "keys rotate".
type rotationReport struct {
	header
	keysetPlace
	Actions []rotationAction `json:"actions"`
	Waiting []string         `json:"waiting,omitempty"` // reasons for which nothing more was done
	Scope   []string         `json:"scope,omitempty"`   // of the audits
	Audited []auditedStore   `json:"audited,omitempty"`
}

type rotationAction struct {
	Action string `json:"action"` // added, promoted, disabled
	Key    uint32 `json:"key_id"`
}

func (k *keysRotate) check() error {
	switch {
	case k.every.Duration <= 0:
		return wrong("--every must be positive")
	case k.settle.Duration < 0:
		return wrong("--settle must not be negative")
	case k.settle.Duration >= k.every.Duration:
		return wrong("--settle (the wait before a new key is promoted) must be shorter than --every (the age of a key)")
	case k.disableUnused && len(k.stores) == 0:
		return wrong("--disable-unused needs --store, once for each Redis that may hold values under the keys")
	case !k.disableUnused && len(k.stores)+len(k.ignoreTypes) > 0:
		return wrong("--store and --ignore-type need --disable-unused")
	}
	return checkTypes(k.ignoreTypes)
}

func (k *keysRotate) run(ctx context.Context, p *program, f *flags) (int, error) {
	if err := k.check(); err != nil {
		return 0, err
	}
	stores, err := k.openStores(ctx)
	defer closeStores(stores)
	if err != nil {
		return 0, err
	}
	r := &rotationReport{header: newHeader(f), Actions: []rotationAction{}}
	view, err := k.step(ctx, r)
	if view != nil {
		p.sayTimesRefused(f, view, r.keysetPlace)
	}
	if errors.Is(err, errTimesNotSaved) { // the keyset was changed
		return 0, errors.Join(err, k.write(p, r, view))
	}
	if err != nil {
		return 0, err
	}
	if k.disableUnused {
		if view, err = k.disable(ctx, p, r, view, stores); err != nil {
			if len(r.Actions) > 0 {
				err = &statusError{exitFailed, err} // something was changed
			}
			return 0, errors.Join(err, k.write(p, r, view))
		}
	}
	return exitDone, k.write(p, r, view)
}

// rotationStore is a Redis of --store.
type rotationStore struct {
	redis.UniversalClient
	auditedStore
}

// auditedStore names a Redis that was audited.
type auditedStore struct {
	Server   string `json:"server"`
	Database int    `json:"database"`
}

func (a auditedStore) String() string { return header{Server: a.Server, Database: &a.Database}.place() }

// openStores connects to every Redis of --store. It is called before the keyset is changed, so that a wrong URL changes
// nothing. The caller closes what it returns, even with an error.
func (k *keysRotate) openStores(ctx context.Context) ([]rotationStore, error) {
	var stores []rotationStore
	for _, url := range k.stores {
		flag := redisFlag{"store", url}
		client, err := flag.open(ctx)
		if err != nil {
			return stores, err
		}
		server, database := flag.server(client)
		stores = append(stores, rotationStore{client, auditedStore{server, database}})
	}
	return stores, nil
}

func closeStores(stores []rotationStore) {
	for _, s := range stores {
		_ = s.Close()
	}
}

func (k *keysRotate) write(p *program, r *rotationReport, view *keysetView) error {
	if view != nil {
		r.Keyset = view.keys
	}
	if k.json {
		return writeJSON(p.stdout, r)
	}
	var b strings.Builder
	for _, a := range r.Actions {
		fmt.Fprintf(&b, "%s key %d\n", a.Action, a.Key)
	}
	if len(r.Actions) == 0 {
		b.WriteString("nothing to do\n")
	}
	for _, w := range r.Waiting {
		b.WriteString(w + "\n")
	}
	for _, s := range r.Scope {
		b.WriteString("Audited: " + s + "\n")
	}
	fmt.Fprintf(&b, "keyset %s\n", r.keysetPlace)
	if view != nil {
		b.WriteString(view.String())
	}
	_, err := fmt.Fprint(p.stdout, b.String())
	return err
}

// change edits the keyset. It waits while another command does.
func (k *keysRotate) change(ctx context.Context, r *rotationReport, edit func(m *keyset.Manager, now *keysetView) error) (*keysetView, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*keyTimeout)
	defer cancel()
	file, done, err := k.keys.open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r.keysetPlace = file.place()
	return file.change(ctx, edit)
}

// step promotes the key that has settled, or adds one if it is time. Both are decided under the lock of the keyset.
func (k *keysRotate) step(ctx context.Context, r *rotationReport) (*keysetView, error) {
	return k.change(ctx, r, func(m *keyset.Manager, now *keysetView) error {
		r.Actions, r.Waiting = []rotationAction{}, nil // of an attempt that found the keyset busy
		at := time.Now()
		if next := pendingKey(now); next != nil {
			if due := next.Times.Created.Add(k.settle.Duration); at.Before(due) {
				r.Waiting = append(r.Waiting, fmt.Sprintf("key %d will become the primary key after %s", next.ID, due.UTC().Format(time.RFC3339)))
				return errNoChange
			}
			r.Actions = append(r.Actions, rotationAction{"promoted", next.ID})
			return m.SetPrimary(next.ID)
		}
		primary := now.primary()
		since := cmp.Or(primary.Times.Promoted, primary.Times.Created)
		if !since.IsZero() && at.Before(since.Add(k.every.Duration)) {
			r.Waiting = append(r.Waiting, fmt.Sprintf("the next key will be added after %s", since.Add(k.every.Duration).UTC().Format(time.RFC3339)))
			return errNoChange
		}
		if since.IsZero() {
			r.Waiting = append(r.Waiting, fmt.Sprintf("a new key was added, because the age of the primary key %d is unknown", primary.ID))
		}
		id, err := addKey(m, now, "")
		if err == nil {
			r.Actions = append(r.Actions, rotationAction{"added", id})
		}
		return err
	})
}

// pendingKey returns the newest key that waits to become the primary key, or nil. A key of unknown age does not count,
// because it may be a former primary key.
func pendingKey(v *keysetView) *keyInfo {
	var found *keyInfo
	for i := range v.keys {
		key := &v.keys[i]
		t := key.Times
		if key.Primary || key.Status != statusEnabled || t.Created.IsZero() || !t.Promoted.IsZero() || !t.Demoted.IsZero() {
			continue
		}
		if found == nil || t.Created.After(found.Times.Created) {
			found = key
		}
	}
	return found
}

// disable disables the former keys that have settled and that no Redis names any more.
func (k *keysRotate) disable(ctx context.Context, p *program, r *rotationReport, view *keysetView, stores []rotationStore) (*keysetView, error) {
	var former []keyInfo
	for _, key := range view.keys {
		t := key.Times
		if key.Primary || key.Status != statusEnabled || t.Demoted.IsZero() {
			continue
		}
		switch {
		case !t.Enabled.IsZero():
			r.Waiting = append(r.Waiting, fmt.Sprintf("key %d was enabled by hand, so it is not disabled here (\"sealcache keys disable\" disables the key)", key.ID))
		case time.Since(t.Demoted) < k.settle.Duration:
			r.Waiting = append(r.Waiting, fmt.Sprintf("key %d is not disabled yet: it was the primary key until %s, which is less than --settle ago", key.ID, t.Demoted.Format(time.RFC3339)))
		default:
			former = append(former, key)
		}
	}
	if len(former) == 0 {
		return view, nil
	}
	unused, err := k.audit(ctx, p, r, view, former, stores)
	if err != nil || len(unused) == 0 {
		return view, err
	}
	before := view.states()
	changed, err := k.change(ctx, r, func(m *keyset.Manager, now *keysetView) error {
		if now.states() != before {
			return errChangedDuringAudit
		}
		for _, id := range unused {
			if err := m.Disable(id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTimesNotSaved) {
		return view, r.notDisabled(err)
	}
	for _, id := range unused {
		r.Actions = append(r.Actions, rotationAction{"disabled", id})
	}
	return changed, err
}

var errChangedDuringAudit = errors.New("the keyset changed during the audit (run the command again)")

// notDisabled adds to an error what the command has done before: "the keyset was not changed" is about the last step only.
func (r *rotationReport) notDisabled(err error) error {
	done := ""
	for _, a := range r.Actions {
		done += fmt.Sprintf("key %d was %s; ", a.Key, a.Action)
	}
	return fmt.Errorf("%sno key was disabled: %w", done, err)
}

// audit returns the keys that may be destroyed according to the audits of every Redis.
func (k *keysRotate) audit(ctx context.Context, p *program, r *rotationReport, view *keysetView, former []keyInfo, stores []rotationStore) ([]uint32, error) {
	unused := map[uint32]bool{}
	for _, key := range former {
		unused[key.ID] = true
	}
	for _, store := range stores {
		report, err := audit.Run(ctx, store.UniversalClient, audit.Config{Logger: p.log, IgnoreTypes: k.ignoreTypes})
		if err != nil {
			return nil, fmt.Errorf("audit of %s: %w", store, err)
		}
		r.Scope, r.Audited = append(r.Scope, store.String()+": "+report.Scope()), append(r.Audited, store.auditedStore)
		for _, key := range former {
			since := key.Times.Demoted
			answer, reasons := report.MayDestroy(key.ID, audit.Conditions{Keyset: auditKeys(view), NotPrimarySince: since, Reload: max(k.settle.Duration, time.Second)})
			if answer == audit.Yes && report.Complete {
				continue
			}
			unused[key.ID] = false
			r.Waiting = append(r.Waiting, fmt.Sprintf("%s: may key %d be disabled? %s: %s", store, key.ID, strings.ToUpper(string(answer)), strings.Join(flagged(reasons), "; ")))
		}
	}
	var ids []uint32
	for _, key := range former {
		if unused[key.ID] {
			ids = append(ids, key.ID)
		}
	}
	return ids, nil
}

// auditKeys returns the keys in the form that the audit needs.
func auditKeys(v *keysetView) []aead.KeyInfo {
	status := map[string]keyset.KeyStatus{statusEnabled: keyset.Enabled, statusDisabled: keyset.Disabled, statusDestroyed: keyset.Destroyed}
	var keys []aead.KeyInfo
	for _, k := range v.keys {
		keys = append(keys, aead.KeyInfo{ID: k.ID, Type: k.Type, Prefix: k.Prefix, Status: status[k.Status], Primary: k.Primary})
	}
	return keys
}
