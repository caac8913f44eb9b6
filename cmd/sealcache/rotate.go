package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

// changeKeyset is the common part of the commands that change one. done, if it is not nil, is called once the new keyset is
// in its place.
func changeKeyset(p *program, k *keyFlags, edit func(m *keyset.Manager, now *keysetView) error, done func(v *keysetView)) (int, error) {
	ctx, cancel := context.WithTimeout(p.ctx, keyTimeout)
	defer cancel()
	file, closeKEK, err := k.file(ctx)
	if err != nil {
		return 0, err
	}
	defer closeKEK()
	view, err := file.change(ctx, edit)
	if err != nil {
		return 0, err
	}
	if done != nil {
		done(view)
	}
	_, err = fmt.Fprint(p.stdout, view)
	return exitDone, err
}

// typeOf is the -type of a key, "" if there is none.
func typeOf(kind string) string {
	return map[string]string{"AesGcmKey": "aes256-gcm", "XAesGcmKey": "xaes256-gcm", "HmacPrfKey": "prf"}[kind]
}

func keysAdd(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	k := f.changeable()
	kind := f.String("type", "", "`type` of the key: aes256-gcm, xaes256-gcm, or prf (default as the primary key)")
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	if _, ok := keyTemplates()[*kind]; *kind != "" && !ok {
		return 0, wrong("-type: aes256-gcm, xaes256-gcm or prf")
	}
	var id uint32
	return changeKeyset(p, k, func(m *keyset.Manager, now *keysetView) error {
		t := *kind
		if t == "" {
			t = typeOf(now.primary().kind)
		}
		switch {
		case t == "":
			return wrong("the primary key is of type %s: say -type", now.primary().kind)
		case (t == "prf") != now.prf:
			return wrong("-type: keys that seal and keys for tokens do not go into one keyset")
		}
		var err error
		if id, err = m.Add(keyTemplates()[t]); err != nil {
			return errors.New("the key cannot be made")
		}
		return nil
	}, func(*keysetView) {
		fmt.Fprintf(p.stderr, "added key %d, which does not seal yet: distribute the keyset, then promote it\n", id)
	})
}

// onKey is a command that does one thing to one key.
func onKey(p *program, k *keyFlags, f *flags, args []string, edit func(m *keyset.Manager, key *keyView, now *keysetView) error, done func(v *keysetView)) (int, error) {
	if err := f.parse(args, 1); err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(f.Arg(0), 10, 32)
	if err != nil {
		return 0, wrong("the id of a key is a number, as \"sealcache keys list\" shows it")
	}
	return changeKeyset(p, k, func(m *keyset.Manager, now *keysetView) error {
		key := now.key(uint32(id))
		if key == nil {
			return fmt.Errorf("the keyset has no key %d", id)
		}
		return edit(m, key, now)
	}, done)
}

func keysPromote(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	return onKey(p, f.changeable(), f, args, func(m *keyset.Manager, key *keyView, _ *keysetView) error {
		if key.status != "Enabled" {
			return fmt.Errorf("key %d is not enabled, so it cannot become the primary key", key.id)
		}
		return m.SetPrimary(key.id)
	}, func(v *keysetView) {
		if v.prf {
			fmt.Fprintf(p.stderr, "sealcache %s: once processes read this, every token changes: of two jobs that are meant to be one, enqueued before and after, both may run\n", c.name)
		}
	})
}

func keysEnable(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	return onKey(p, f.changeable(), f, args, func(m *keyset.Manager, key *keyView, _ *keysetView) error {
		if key.status == "Destroyed" {
			return fmt.Errorf("key %d is destroyed", key.id)
		}
		return m.Enable(key.id)
	}, nil)
}

func keysDisable(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	return onKey(p, f.changeable(), f, args, func(m *keyset.Manager, key *keyView, _ *keysetView) error {
		switch {
		case key.primary:
			return fmt.Errorf("key %d is the primary key: promote another first", key.id)
		case key.status == "Destroyed":
			return fmt.Errorf("key %d is destroyed", key.id)
		}
		return m.Disable(key.id)
	}, nil)
}

func keysDestroy(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	k := f.changeable()
	yes := f.Bool("yes", false, "I know that whatever is sealed under the key, in backups too, can never be opened again")
	audited := f.String("audited", "", "instead of -yes: `file` that \"sealcache audit -may-destroy ID -json FILE\" wrote within the last day, with the answer yes, when the key was disabled already")
	return onKey(p, k, f, args, func(m *keyset.Manager, key *keyView, now *keysetView) error {
		switch {
		case key.primary:
			return fmt.Errorf("key %d is the primary key: promote another first", key.id)
		case *audited != "":
			if err := auditSaysYes(*audited, key, now); err != nil {
				return err
			}
		case !*yes:
			return wrong("what is sealed under key %d could never be opened again. Ask \"sealcache audit -may-destroy %d\" first, and give its report by -audited, or say -yes", key.id, key.id)
		}
		return m.Delete(key.id)
	}, nil)
}

// auditSaysYes reads the report of an audit. It holds for a key that was out of use from before the audit on.
func auditSaysYes(path string, key *keyView, now *keysetView) error {
	id := key.id
	const recent = 24 * time.Hour
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var report struct {
		Started    time.Time `json:"started"`
		Complete   bool      `json:"complete"`
		MayDestroy *uint32   `json:"may_destroy"`
		KeyState   keyState  `json:"key_state"`
		Answer     string    `json:"answer"`
	}
	switch err := json.Unmarshal(data, &report); {
	case err != nil:
		return errors.New("-audited: not the report of an audit")
	case report.MayDestroy == nil || *report.MayDestroy != id:
		return fmt.Errorf("-audited: that audit was not asked about key %d", id)
	case report.Answer != "yes" || !report.Complete:
		return fmt.Errorf("-audited: that audit does not say that key %d may be destroyed", id)
	case time.Since(report.Started) > recent || time.Until(report.Started) > time.Minute:
		return errors.New("-audited: that audit is older than a day: audit again")
	case key.status != statusDisabled:
		return fmt.Errorf("-audited: key %d is not disabled, so something may be sealed under it since that audit: disable it, and audit again", id)
	case report.KeyState.Status != statusDisabled:
		return fmt.Errorf("-audited: key %d was not disabled when that audit began, so something may be sealed under it since: audit again", id)
	case report.KeyState.Primary != now.primary().id || report.KeyState.Digest != now.digest:
		return errors.New("-audited: the keyset was changed since that audit, or it was of another: audit again")
	}
	return nil
}

// keysRewrap seals the keyset anew: under the present primary key of its KEK, or under another KEK.
func keysRewrap(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	k := f.changeable()
	to := f.String("to-kek", "", "`URI` of the key-encryption key to seal the keyset under (default the present one)")
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, keyTimeout)
	defer cancel()
	if *k.keyset == "" {
		return 0, wrong("-keyset is missing")
	}
	file, done, err := k.file(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	if *to != "" {
		kek, done, err := openKEK(ctx, *to)
		if err != nil {
			return 0, err
		}
		defer done()
		file.to = kek
	}
	view, err := file.change(ctx, func(*keyset.Manager, *keysetView) error { return nil })
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprint(p.stdout, view)
	return exitDone, err
}
