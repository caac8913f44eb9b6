package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/middleware/audit"
)

const (
	keysEnv = "  export SEALCACHE_KEK=file:///run/secrets/kek.json SEALCACHE_KEYSET=\"$PWD/keyset.json\"\n"
	jsonUse = "print the report as JSON"
)

func keysCommands() []entry {
	return []entry{
		{
			use: "create", short: "Make a keyset with one key", make: func() command { return new(keysCreate) },
			long:    "Create makes a file with a keyset of one new key. The key-encryption key seals the keyset.",
			example: "  sealcache keys create --kek file:///run/secrets/kek.json --out keyset.json\n  sealcache keys create --kek passphrase:env:PASSPHRASE --out tokens.json --type prf",
		},
		{
			use: "list", short: "List the keys of a keyset", make: func() command { return new(keysList) },
			long:    "List shows the id, type and status of each key, never its material. A star marks the primary key, which seals.",
			example: keysEnv + "  sealcache keys list --json",
		},
		{
			use: "add", short: "Add a key that does not seal yet", make: func() command { return &keysChange{action: actionAdd} },
			long:    "Add puts a new key into a keyset. The key seals nothing before \"sealcache keys promote\". Distribute the keyset in between.",
			example: keysEnv + "  sealcache keys add",
		},
		{
			use: "promote ID", short: "Make a key the primary key, which seals", make: func() command { return &keysChange{action: actionPromote} },
			example: keysEnv + "  sealcache keys promote 2222222222",
		},
		{
			use: "disable ID", short: "Take a key out of service", make: func() command { return &keysChange{action: actionDisable} },
			long:    "Disable takes a key out of service: values under it do not open any more. \"sealcache keys enable\" reverses it.",
			example: keysEnv + "  sealcache keys disable 1111111111",
		},
		{
			use: "enable ID", short: "Put a disabled key into service again", make: func() command { return &keysChange{action: actionEnable} },
			example: keysEnv + "  sealcache keys enable 1111111111",
		},
		{
			use: "destroy ID", short: "Remove a key forever", make: func() command { return new(keysDestroy) },
			long: "Destroy removes a key. Values that are sealed under it, also in backups, can never be opened again. It asks for the report\n" +
				"of an audit, or for --yes. It prints a certificate of the destruction in JSON: which key, which audit, and when. It prints\n" +
				"it only once. With --certificate it also keeps it in a file.",
			example: keysEnv + "  sealcache audit --may-destroy 1111111111 --not-primary-since 2030-01-31T12:00:00Z --report destroy.json\n" +
				"  sealcache keys destroy --audited destroy.json --certificate destroyed.json 1111111111",
		},
		{
			use: "rotate", short: "Do the next step of a rotation, from cron", make: func() command { return new(keysRotate) },
			long: "Rotate does the step of a rotation that is due, or nothing. It adds a key when the primary key is older than --every, or of\n" +
				"unknown age. It promotes that key when it is older than --settle, the time in which every process has the keyset. With\n" +
				"--disable-unused it audits every Redis of --store, and disables a key that each audit says may be destroyed. It destroys\n" +
				"nothing. It may run on several machines that share the file, at any time.",
			example: keysEnv + "  sealcache keys rotate --every 90d --settle 48h\n" +
				"  sealcache keys rotate --every 90d --settle 48h --disable-unused --store redis://localhost:6379/0",
		},
		{
			use: "rewrap", short: "Seal a keyset again, under the primary key of its KEK or under another KEK", make: func() command { return new(keysRewrap) },
			long: "Rewrap seals a keyset again: under the present primary key of its key-encryption key, or under another one. With\n" +
				"--keyset-name it also binds the keyset to a name. The keys stay the same.",
			example: keysEnv + "  sealcache keys rewrap --to-kek passphrase:file:/run/secrets/passphrase",
		},
	}
}

// changeKeyset edits the keyset of the flags. Nothing is printed before the new keyset is in its place.
func changeKeyset(ctx context.Context, k *keysetFlags, to string, edit func(m *keyset.Manager, now *keysetView) error) (*keysetView, keysetPlace, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	file, done, err := k.open(ctx)
	if err != nil {
		return nil, keysetPlace{}, err
	}
	defer done()
	if to != "" {
		kek, done, err := openKEK(ctx, to)
		if err != nil {
			return nil, keysetPlace{}, err
		}
		defer done()
		file.to = kek
	}
	view, err := file.change(ctx, edit)
	return view, file.place(), err
}

// keyID reads the argument ID.
func keyID(f *flags) (uint32, error) {
	id, err := strconv.ParseUint(f.args[0], 10, 32)
	if err != nil {
		return 0, wrong("the ID is not the number of a key (\"sealcache keys list\" shows the ids)")
	}
	return uint32(id), nil
}

// The actions of keysChange.
type action int

const (
	actionAdd action = iota
	actionPromote
	actionDisable
	actionEnable
)

// keysChange is "keys add", "keys promote", "keys disable" and "keys enable".
type keysChange struct {
	action action
	keys   keysetFlags
	kind   string
	json   bool
}

func (k *keysChange) declare(f *flags) {
	k.keys.declare(f)
	if k.action == actionAdd {
		types := []string{"aes256-gcm", "xaes256-gcm", "prf"}
		f.Var(&choice{&k.kind, types}, "type", "type of the key (default: as the primary key)")
		_ = f.cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(types, cobra.ShellCompDirectiveNoFileComp))
	}
	f.BoolVar(&k.json, "json", false, jsonUse)
}

func (k *keysChange) run(ctx context.Context, p *program, f *flags) (int, error) {
	var id uint32
	var err error
	if k.action != actionAdd {
		if id, err = keyID(f); err != nil {
			return 0, err
		}
	}
	view, place, err := changeKeyset(ctx, &k.keys, "", func(m *keyset.Manager, now *keysetView) error {
		if k.action == actionAdd {
			id, err = addKey(m, now, k.kind)
			return err
		}
		return k.action.apply(m, now, id)
	})
	if k.action == actionAdd && errors.Is(err, errTimesNotSaved) { // a second run would add a second key
		return 0, fmt.Errorf("key %d was added to %s, but a later step failed (do not repeat the command): %w", id, place.File, err)
	}
	if err != nil {
		return 0, err
	}
	var added *uint32
	switch {
	case k.action == actionAdd:
		added = &id
		fmt.Fprintf(p.stderr, "added key %d, which does not seal yet, to %s (distribute the keyset, then promote the key)\n", id, place.File)
	case k.action == actionPromote && view.prf:
		fmt.Fprintf(p.stderr, "%s: unique jobs get other locks in Redis with this keyset: a job enqueued before and after the change may run twice\n", f.cmd.CommandPath())
	}
	return exitDone, p.writeKeyset(f, k.json, view, place, added)
}

func addKey(m *keyset.Manager, now *keysetView, kind string) (uint32, error) {
	kind = cmp.Or(kind, typeOf(now.primary().Type))
	switch {
	case kind == "":
		return 0, wrong("--type is missing (there is no default for a primary key of type %s)", now.primary().Type)
	case (kind == "prf") != now.prf:
		return 0, wrong("--type: a keyset cannot hold both prf keys and keys of other types")
	}
	id, err := m.Add(keyTemplates()[kind])
	if err != nil {
		return 0, errors.New("no key was added, because the Tink library failed to make one (report this as a bug)")
	}
	return id, nil
}

// apply changes one key.
func (a action) apply(m *keyset.Manager, now *keysetView, id uint32) error {
	key := now.key(id)
	switch {
	case key == nil:
		return errNoKey(id)
	case key.Status == statusDestroyed:
		return wrong("key %d was destroyed, so it cannot be changed", id)
	case a == actionPromote && key.Status != statusEnabled:
		return wrong("key %[1]d is not enabled, so it cannot become the primary key (run \"sealcache keys enable %[1]d\")", id)
	case a == actionDisable && key.Primary:
		return errPrimary(id)
	}
	switch a {
	case actionPromote:
		return m.SetPrimary(id)
	case actionDisable:
		return m.Disable(id)
	default:
		return m.Enable(id)
	}
}

func errPrimary(id uint32) error {
	return wrong("key %d is the primary key (promote another key first)", id)
}

func errNoKey(id uint32) error {
	return wrong("the keyset has no key %d (\"sealcache keys list\" shows the ids)", id)
}

// keysDestroy is "keys destroy".
type keysDestroy struct {
	keys                 keysetFlags
	yes, json            bool
	audited, certificate string
}

func (k *keysDestroy) declare(f *flags) {
	k.keys.declare(f)
	f.StringVar(&k.audited, "audited", "", "`FILE` that \"sealcache audit --may-destroy ID --report FILE\" wrote within the last day, with the answer yes, after the key was disabled")
	f.StringVar(&k.certificate, "certificate", "", "write the certificate to this `FILE`, too; it must not exist")
	f.BoolVar(&k.yes, "yes", false, "destroy the key without an audit")
	f.BoolVar(&k.json, "json", false, "print nothing but the certificate")
	f.file("audited", "certificate")
}

func (k *keysDestroy) run(ctx context.Context, p *program, f *flags) (int, error) {
	id, err := keyID(f)
	if err != nil {
		return 0, err
	}
	if err := creatable("certificate", k.certificate); err != nil {
		return 0, err
	}
	c := certificate{header: newHeader(f), NotBound: notCovered}
	view, place, err := changeKeyset(ctx, &k.keys, "", func(m *keyset.Manager, now *keysetView) error {
		key := now.key(id)
		switch {
		case key == nil:
			return errNoKey(id)
		case key.Primary:
			return errPrimary(id)
		case k.audited != "":
			if c.Audit, err = auditAllows(k.audited, key, now); err != nil {
				return err
			}
		case !k.yes:
			return wrong("the key is not destroyed: --audited is missing (run \"sealcache audit --may-destroy %d --report FILE\")", id)
		}
		c.Destroyed, c.Before = *key, now.fileDigest
		return m.Delete(id)
	})
	if err != nil {
		return 0, err
	}
	c.keysetPlace, c.At, c.After, c.Keyset = place, time.Now().UTC().Truncate(time.Second), sha256Of(place.File), view.keys
	if !k.json {
		fmt.Fprintf(p.stderr, "destroyed key %d of %s (keep the certificate)\n", id, place)
	}
	data, err := indent(c)
	if err != nil {
		return 0, err
	}
	_, err = p.stdout.Write(data)
	if k.certificate == "" {
		return exitDone, err
	}
	if failed := createFile(k.certificate, data); failed != nil {
		err = errors.Join(err, fmt.Errorf("key %d was destroyed, but --certificate failed (save the printed certificate): %w", id, failed))
	}
	return exitDone, err
}

// auditAllows reads the report of an audit. It allows the destruction only if the key has been disabled since before the
// audit.
func auditAllows(path string, key *keyInfo, now *keysetView) (*usedAudit, error) {
	const recent = 24 * time.Hour
	report, ok, err := readAuditReport(path)
	if err != nil {
		return nil, fmt.Errorf("--audited: %w", err)
	}
	if !ok || !report.known {
		return nil, wrong("--audited: the file is not a report of \"sealcache audit --may-destroy\" of this release")
	}
	i := slices.IndexFunc(report.Keyset, func(k keyInfo) bool { return k.ID == key.ID })
	switch {
	case report.MayDestroy == nil || *report.MayDestroy != key.ID:
		return nil, wrong("--audited: the report answers another question (audit again with --may-destroy %d)", key.ID)
	case report.Answer != audit.Yes || !report.Complete:
		return nil, wrong("--audited: the answer for key %d is not yes, or the audit did not complete (read the report)", key.ID)
	case time.Since(report.Started) > recent || time.Until(report.Started) > time.Minute:
		return nil, wrong("--audited: the audit is older than a day, or from the future (audit again)")
	case key.Status != statusDisabled:
		return nil, wrong("--audited: key %d is not disabled (disable it, and audit again)", key.ID)
	case i < 0 || report.Keyset[i].Status != statusDisabled:
		return nil, wrong("--audited: key %d was not disabled when the audit began (audit again)", key.ID)
	case now.digest == "" && now.stored[key.ID].Disabled.IsZero():
		return nil, wrong("--audited: nothing shows when key %d was disabled (enable it, disable it, and audit again)", key.ID)
	case now.digest == "" && !report.Keyset[i].Times.Disabled.Equal(now.stored[key.ID].Disabled):
		return nil, wrong("--audited: key %d was enabled since the audit (audit again)", key.ID)
	case primaryOf(report.Keyset).ID != now.primary().ID || report.Digest != now.digest:
		return nil, wrong("--audited: the audit saw another keyset, or the keyset was changed since then (audit again)")
	}
	return &usedAudit{path, report.SHA256, report.Started, string(report.Answer), report.Scope, report.Server, report.Database}, nil
}

// keysRewrap is "keys rewrap".
type keysRewrap struct {
	keys keysetFlags
	to   string
	json bool
}

func (k *keysRewrap) declare(f *flags) {
	k.keys.declare(f)
	f.StringVar(&k.to, "to-kek", "", "`URI` of the key-encryption key to seal the keyset under (default: the present one)")
	f.BoolVar(&k.json, "json", false, jsonUse)
	f.need("keyset")
}

func (k *keysRewrap) run(ctx context.Context, p *program, f *flags) (int, error) {
	view, place, err := changeKeyset(ctx, &k.keys, k.to, func(*keyset.Manager, *keysetView) error { return nil })
	if err != nil {
		return 0, err
	}
	return exitDone, p.writeKeyset(f, k.json, view, place, nil)
}
