package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
)

// prfFlags name the PRF keyset by which the application hides names.
type prfFlags struct{ hidden, oneWay, name string }

func (k *prfFlags) declare(f *flags) {
	f.env(&k.hidden, "hidden-keys", "SEALCACHE_HIDDEN_KEYS", "`FILE` of the PRF keyset that hides names, sealed under --kek, or env:NAME")
	f.env(&k.oneWay, "one-way-keys", "SEALCACHE_ONE_WAY_KEYS", "`FILE` of the PRF keyset that hides names one way, sealed under --kek, or env:NAME")
	f.env(&k.name, "prf-keyset-name", "SEALCACHE_PRF_KEYSET_NAME", "`NAME` that the PRF keyset was bound to when it was made")
	f.file("hidden-keys", "one-way-keys")
}

// given reports whether names are hidden.
func (k *prfFlags) given() bool { return k.hidden != "" || k.oneWay != "" }

// check returns an error for flags that contradict each other. filters reports that a flag selects keys.
func (k *prfFlags) check(kek string, filters bool) error {
	switch {
	case k.hidden != "" && k.oneWay != "":
		return wrong("--hidden-keys and --one-way-keys cannot be used together")
	case !k.given() && k.name != "":
		return wrong("--prf-keyset-name needs --hidden-keys or --one-way-keys")
	case k.given() && kek == "":
		return wrong("--hidden-keys and --one-way-keys need --kek")
	case k.oneWay != "" && filters:
		return wrong("--one-way-keys forbids --prefix, --exclude and --group-by: Redis has only hashes of the cache keys")
	}
	return nil
}

// open opens the PRF keyset. One of the sets is nil, or both.
func (k *prfFlags) open(ctx context.Context, p *program, kek string, others []string) (hidden, oneWay *prf.Set, err error) {
	if !k.given() {
		return nil, nil, nil
	}
	flag, where := "hidden-keys", k.hidden
	if k.oneWay != "" {
		flag, where = "one-way-keys", k.oneWay
	}
	source, _, err := keysetSource(flag, where)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	by, done, err := openKEKs(ctx, kek, others)
	if err != nil {
		return nil, nil, keyError(err)
	}
	defer done()
	set, err := aead.OpenPRF(ctx, source, by, append(nameOptions(k.name), aead.WithLogger(p.log))...)
	switch {
	case err != nil:
		return nil, nil, refusedKeyset(where, "--kek and --prf-keyset-name", err)
	case k.oneWay != "":
		return nil, set, nil
	default:
		return set, nil, nil
	}
}

// names returns the keys under which the entry of an application's key may be stored, without the namespace.
func (k *prfFlags) names(ctx context.Context, p *program, kek string, others []string, namespace, key string) ([]string, error) {
	hidden, oneWay, err := k.open(ctx, p, kek, others)
	set := cmp.Or(hidden, oneWay)
	if set == nil || err != nil {
		return []string{key}, err
	}
	return audit.Pseudonyms(namespace, key, set)
}

// firstEntry calls look for each key until there is an entry, and returns the keys for which it called look.
func firstEntry[E any](keys []string, look func(key string) (E, error)) (looked []string, found E, err error) {
	for i, key := range keys {
		if found, err = look(key); !errors.Is(err, audit.ErrNoEntry) {
			return keys[:i+1], found, err
		}
	}
	return keys, found, err
}
