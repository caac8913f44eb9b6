package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/keyconfig"
)

// dataKeyFlags name the keys that values are sealed under.
type dataKeyFlags struct {
	f                     *flags
	prefix, of            string // "old-" and "old " for those that a run opens with only
	kek, keyset, name, as string
	others                []string
	context               map[string]string // of aead.WithWrapContext
	contextState          string
	tenantKEKs, tenant    string // of aead.WithTenantKEKs
}

func (k *dataKeyFlags) declare(f *flags) {
	k.f = f
	f.env(&k.kek, "kek", "SEALCACHE_KEK", "`URI` of the key-encryption key: file:///path, passphrase:env:NAME, passphrase:file:/path or that of a key service")
	f.otherKEKs(&k.others)
	f.env(&k.keyset, "keyset", "SEALCACHE_KEYSET", "`FILE` of the keyset that --kek seals, or env:NAME; none if --kek wraps the data keys itself")
	f.env(&k.name, "keyset-name", "SEALCACHE_KEYSET_NAME", "`NAME` that the keyset was bound to when it was made")
	f.choice(&k.as, "keys-as", "how the application seals: with an envelope over these keys, as fxmodule does, or with a keyring", "envelope", "keyring")
	f.wrapContext(&k.context, &k.contextState)
	f.env(&k.tenantKEKs, "tenant-keks", "SEALCACHE_TENANT_KEKS", tenantKEKsUse)
	f.env(&k.tenant, "tenant", "SEALCACHE_TENANT", tenantUse)
	f.file("keyset")
}

const (
	tenantKEKsUse = "`URI` of the tenants' key-encryption keys, with {tenant} in the place of the tenant"
	tenantUse     = "`ID` of the tenant that the values belong to; needs --tenant-keks"
)

// wrapContext declares the wrap context and the state of its introduction.
func (f *flags) wrapContext(context *map[string]string, state *string) {
	f.pairs(context, "wrap-context", wrapContextUse)
	f.fromEnv["wrap-context"] = "SEALCACHE_WRAP_CONTEXT"
	f.choice(state, "wrap-context-state", "data keys without the wrap context are refused (require), still open (tolerate), or still open and are still made (prepare)",
		keyconfig.Require, keyconfig.Tolerate, keyconfig.Prepare)
	f.fromEnv["wrap-context-state"] = "SEALCACHE_WRAP_CONTEXT_STATE"
}

const wrapContextUse = "`NAME=VALUE,...` of the wrap context: the associated data with which the KEK wraps the data keys"

func (k *dataKeyFlags) declareOld(f *flags) {
	k.f, k.prefix, k.of = f, "old-", "old "
	f.StringVar(&k.kek, "old-kek", "", "`URI` of the key-encryption key of the present values, if it differs from --kek")
	f.StringVar(&k.keyset, "old-keyset", "", "`FILE` of the keyset that --old-kek seals, or env:NAME")
	f.StringVar(&k.name, "old-keyset-name", "", "`NAME` that --old-keyset was bound to when it was made")
	f.choice(&k.as, "old-keys-as", "how the present values are sealed", "envelope", "keyring")
	f.pairs(&k.context, "old-wrap-context", wrapContextUse+" of the present values")
	f.StringVar(&k.tenantKEKs, "old-tenant-keks", "", tenantKEKsUse+", for the present values")
	f.StringVar(&k.tenant, "old-tenant", "", "`ID` of the tenant that the present values belong to; needs --old-tenant-keks")
	f.file("old-keyset")
}

// opened are keys in use.
type opened struct {
	aead    tink.AEADWithContext // an envelope, one of its tenants, or a keyring
	ring    *aead.Keyring        // nil with a key service or a passphrase without a keyset
	digest  string               // of the bytes of the sealed keyset
	closers []func()
	alone   bool // only this process can open the values that aead seals
}

func (o *opened) close() {
	for _, closeOne := range slices.Backward(o.closers) {
		closeOne()
	}
}

// both returns the envelope and the keyring over the same keyset, which may both have sealed.
func (o *opened) both() []tink.AEADWithContext {
	keys := []tink.AEADWithContext{o.aead}
	if _, envelope := o.aead.(*aead.Envelope); envelope && o.ring != nil {
		keys = append(keys, o.ring)
	}
	return keys
}

// purpose is the reason why keys are opened.
type purpose int

const (
	toSeal purpose = iota // and to open
	toOpen                // the permission to decrypt at the key service is enough
	toList                // the keys of the keyset; no data key is made
)

// keysetReload is the interval at which a keyset is read again, in addition to each change of its file. A run of hours must
// notice a new primary key.
const keysetReload = time.Minute

// dataKeysHeld bounds the unwrapped data keys that a command holds, at a kilobyte each. Entries come in any order,
// and each data key that is not held costs a call to the key service.
const dataKeysHeld = 1 << 17

// open opens the keys.
func (k *dataKeyFlags) open(ctx context.Context, p *program, to purpose) (*opened, error) {
	if err := k.f.checkAlone(k.prefix, k.keyset, k.context); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	o := new(opened)
	kek, done, err := openKEKs(ctx, k.kek, k.others)
	if err != nil {
		return nil, k.failed(err)
	}
	o.closers = append(o.closers, done)
	o.ring, _ = kek.(*aead.Keyring)
	if k.keyset != "" {
		if err := o.openKeyset(ctx, p, k, kek); err != nil {
			o.close()
			return nil, k.failed(err)
		}
		kek = o.ring
	}
	if to != toList {
		if err := o.openSealer(ctx, p, k, kek, to); err != nil {
			o.close()
			return nil, k.failed(err)
		}
	}
	return o, nil
}

func (k *dataKeyFlags) failed(err error) error {
	if k.of == "" {
		return keyError(err)
	}
	return keyError(fmt.Errorf("open the old keys (--old-kek): %w", err))
}

// openKeyset opens the keyset under its key-encryption key.
func (o *opened) openKeyset(ctx context.Context, p *program, k *dataKeyFlags, kek tink.AEADWithContext) error {
	source, _, err := keysetSource(k.prefix+"keyset", k.keyset)
	if err != nil {
		return err
	}
	if data, err := source.Load(ctx); err == nil { // else the next says why
		o.digest = digestOf(data)
	}
	opts := append(nameOptions(k.name), aead.WithLogger(p.log), aead.WithReload(keysetReload))
	if o.ring, err = aead.OpenKeyring(ctx, source, kek, opts...); err != nil {
		return refusedKeyset(k.keyset, "--"+k.prefix+"kek and --"+k.prefix+"keyset-name", err)
	}
	o.closers = append(o.closers, func() { _ = o.ring.Close() })
	return nil
}

// checkAlone refuses flags that have no effect without a keyset or a wrap context. prefix is as in dataKeyFlags.
func (f *flags) checkAlone(prefix, keyset string, context map[string]string) error {
	if keyset == "" {
		if err := f.refuseWithout("--"+prefix+"keyset", prefix+"keyset-name"); err != nil {
			return err
		}
	}
	if prefix == "" && len(context) == 0 {
		return f.refuseWithout("--wrap-context", "wrap-context-state")
	}
	return nil
}

// checkTenant refuses flags for a tenant that lack their counterpart.
func (k *dataKeyFlags) checkTenant() error {
	switch {
	case k.tenant == "" && k.tenantKEKs == "":
		return nil
	case k.tenantKEKs == "":
		return wrong("--%[1]stenant needs --%[1]stenant-keks", k.prefix)
	case k.tenant == "":
		return wrong("--%[1]stenant-keks needs --%[1]stenant", k.prefix)
	case !strings.Contains(k.tenantKEKs, "{tenant}"):
		return wrong("--%stenant-keks: the URI must contain {tenant} in the place of the tenant", k.prefix)
	case k.as == "keyring":
		return wrong("--%[1]stenant cannot be used with --%[1]skeys-as keyring", k.prefix)
	}
	return nil
}

// openSealer opens what seals values: the keyring itself, an envelope, or a tenant of one.
func (o *opened) openSealer(ctx context.Context, p *program, k *dataKeyFlags, kek tink.AEADWithContext, to purpose) error {
	if err := k.checkTenant(); err != nil {
		return err
	}
	if k.as == "keyring" {
		if len(k.context) > 0 {
			return wrong("--%[1]swrap-context cannot be used with --%[1]skeys-as keyring", k.prefix)
		}
		if o.ring == nil && len(k.others) > 0 {
			return wrong("--keys-as keyring with --other-kek needs --keyset")
		}
		if o.ring == nil {
			return wrong("--%[1]skeys-as keyring needs --%[1]skeyset, or a --%[1]skek of file://", k.prefix)
		}
		o.aead = o.ring
		return nil
	}
	if _, ring := kek.(*aead.Keyring); to == toOpen && !ring {
		kek, o.alone = &openOnly{AEADWithContext: kek}, k.tenant == "" // a tenant has its own KEK
	}
	opts := append(keyconfig.WrapContext(k.context, k.contextState), aead.WithLogger(p.log), aead.WithDataKeyCache(dataKeysHeld))
	if k.tenantKEKs != "" {
		opts = append(opts, aead.WithTenantKEKs(k.tenantKEKs, openers()...))
	}
	e, err := aead.NewEnvelope(ctx, kek, opts...)
	if err != nil {
		return err
	}
	o.closers = append(o.closers, func() { _ = e.Close() })
	o.aead = e
	if k.tenant != "" {
		if o.aead, err = e.Tenant(k.tenant); err != nil {
			return wrong("--%stenant: %w", k.prefix, err)
		}
		// The Envelope counts a key that does not exist as an outage, and a run would try again for half a minute.
		_, done, err := openKEK(ctx, strings.ReplaceAll(k.tenantKEKs, "{tenant}", k.tenant))
		if err != nil {
			return fmt.Errorf("--%stenant: %w", k.prefix, err)
		}
		done()
	}
	return nil
}
