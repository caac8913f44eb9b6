package aead_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// auditedKEK records the associated data of its calls.
type auditedKEK struct {
	tink.AEADWithContext

	mu             sync.Mutex
	wraps, unwraps []string
}

func (k *auditedKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	k.mu.Lock()
	k.wraps = append(k.wraps, string(associatedData))
	k.mu.Unlock()
	return k.AEADWithContext.EncryptWithContext(ctx, plaintext, associatedData)
}

func (k *auditedKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.mu.Lock()
	k.unwraps = append(k.unwraps, string(associatedData))
	k.mu.Unlock()
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, associatedData)
}

func shopContext() map[string]string {
	return map[string]string{"namespace": "shop", "app": "web store"}
}

const shopEncoded = `sealcache.wrap.v1 {"app":"web store","namespace":"shop"}`

// An Envelope with the context opens its values. Without the context, or with another one, they are refused, and that is not an
// outage.
func TestWrapContext(t *testing.T) {
	t.Parallel()
	kek := &auditedKEK{AEADWithContext: newKeyring(t)}
	e := newEnvelope(t, kek, aead.WithWrapContext(shopContext()))
	sealed := sealFor(t, e, "value")
	if !slices.Equal(kek.wraps, []string{shopEncoded}) || !slices.Equal(kek.unwraps, []string{shopEncoded, "not " + shopEncoded}) {
		t.Errorf("the KEK saw %q and %q", kek.wraps, kek.unwraps)
	}
	if got, err := openFor(newEnvelope(t, kek, aead.WithWrapContext(shopContext())), sealed); err != nil || got != "value" {
		t.Errorf("another process: %q, %v", got, err)
	}
	other := shopContext()
	other["namespace"] = "Shop"
	for name, opts := range map[string][]aead.EnvelopeOption{
		"none":           nil,
		"another":        {aead.WithWrapContext(other)},
		"fewer":          {aead.WithWrapContext(map[string]string{"namespace": "shop"})},
		"others than it": {aead.WithWrapContext(other), aead.WithOtherWrapContexts(nil)},
	} {
		_, err := openFor(newEnvelope(t, kek, opts...), sealed)
		if !errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	theirs := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), keyringAEAD{kek.AEADWithContext})
	if _, err := theirs.Decrypt(sealed, []byte("ad")); err == nil {
		t.Error("Tink's envelope opens a value with a context")
	}
}

// keyringAEAD is a KEK for Tink's envelope.
type keyringAEAD struct{ kek tink.AEADWithContext }

func (k keyringAEAD) Encrypt(plaintext, ad []byte) ([]byte, error) {
	return k.kek.EncryptWithContext(context.Background(), plaintext, ad)
}

func (k keyringAEAD) Decrypt(ciphertext, ad []byte) ([]byte, error) {
	return k.kek.DecryptWithContext(context.Background(), ciphertext, ad)
}

// Without the option, the KEK gets an empty slice, as from Tink's envelope.
func TestNoWrapContext(t *testing.T) {
	t.Parallel()
	kek := &auditedKEK{AEADWithContext: newKeyring(t)}
	e := newEnvelope(t, kek, aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
	sealFor(t, e, "value")
	sealFor(t, newTenant(t, e, "acme"), "value")
	if calls := slices.Concat(kek.wraps, kek.unwraps); strings.Join(calls, "") != "" || len(kek.wraps) != 2 {
		t.Errorf("the KEK saw %q", calls)
	}
}

// The tenant is part of the context, and keeps values apart under one KEK.
func TestWrapContextOfTenant(t *testing.T) {
	t.Parallel()
	kek := &auditedKEK{AEADWithContext: newKeyring(t)}
	e := newEnvelope(t, newKeyring(t), aead.WithWrapContext(map[string]string{"namespace": "shop"}),
		aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
	sealed := sealFor(t, newTenant(t, e, "acme"), "value")
	const want = `sealcache.wrap.v1 {"namespace":"shop","tenant":"acme"}`
	if len(kek.wraps) != 1 || kek.wraps[0] != want || kek.unwraps[0] != want {
		t.Errorf("the KEK saw %q and %q", kek.wraps, kek.unwraps)
	}
	if _, err := openFor(newTenant(t, e, "globex"), sealed); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("another tenant: %v", err)
	}
	if got, err := openFor(newTenant(t, e, "acme"), sealed); err != nil || got != "value" {
		t.Errorf("%q, %v", got, err)
	}
}

// Processes introduce a context, and take it back, one after the other. Neighbouring steps read each other's values.
func TestIntroduceWrapContext(t *testing.T) {
	t.Parallel()
	for name, kek := range map[string]tink.AEADWithContext{
		"keyring": newKeyring(t),
		"service": aeadtest.NewKeyService(t),
		"set":     newKEKSet(t, newKeyring(t), aeadtest.NewKeyService(t)),
	} {
		steps := [][]aead.EnvelopeOption{
			nil,
			{aead.WithOtherWrapContexts(shopContext())},
			{aead.WithWrapContext(shopContext()), aead.WithOtherWrapContexts(nil)},
			{aead.WithWrapContext(shopContext())},
		}
		for i := range len(steps) - 1 {
			before, after := newEnvelope(t, kek, steps[i]...), newEnvelope(t, kek, steps[i+1]...)
			for _, pair := range [][2]*aead.Envelope{{before, after}, {after, before}} {
				got, err := openFor(pair[1], sealFor(t, pair[0], "value"))
				if err != nil || got != "value" {
					t.Errorf("%s, step %d: %q, %v", name, i, got, err)
				}
			}
		}
		first, last := newEnvelope(t, kek, steps[0]...), newEnvelope(t, kek, steps[3]...)
		if _, err := openFor(last, sealFor(t, first, "value")); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: a value without context, at the end: %v", name, err)
		}
	}
}

// An outage while the second context is tried stays an outage.
func TestOutageBetweenWrapContexts(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	sealed := sealFor(t, newEnvelope(t, service), "value")
	kek := &failingSecond{AEADWithContext: service}
	e := newEnvelope(t, kek, aead.WithWrapContext(shopContext()), aead.WithOtherWrapContexts(nil))
	kek.fail = true
	if _, err := openFor(e, sealed); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("%v", err)
	}
	kek.fail = false
	if got, err := openFor(e, sealed); err != nil || got != "value" {
		t.Errorf("after the outage: %q, %v", got, err)
	}
}

// failingSecond fails calls without associated data.
type failingSecond struct {
	tink.AEADWithContext

	fail bool
}

func (k *failingSecond) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if k.fail && len(associatedData) == 0 {
		return nil, aeadtest.ErrOutage
	}
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, associatedData)
}

// A reload of the KEK, and its rotation, keep the context.
func TestWrapContextAfterReload(t *testing.T) {
	t.Parallel()
	kek := &auditedKEK{AEADWithContext: newKeyring(t)}
	e := newEnvelope(t, kek, aead.WithWrapContext(shopContext()))
	sealed := sealFor(t, e, "value")
	e.KEKChanged()
	if got, err := openFor(e, sealed); err != nil || got != "value" {
		t.Errorf("%q, %v", got, err)
	}
	sealFor(t, e, "value")
	if len(kek.wraps) != 2 || kek.wraps[1] != shopEncoded {
		t.Errorf("the KEK saw %q", kek.wraps)
	}
	tests := slices.DeleteFunc(slices.Clone(kek.unwraps), func(ad string) bool { return ad != "not "+shopEncoded })
	if len(tests) != 2 {
		t.Errorf("the reloaded KEK was not tested: it saw %q", kek.unwraps)
	}
}

// The KEK of a tenant is tested as that of the Envelope is.
func TestTenantKEKIgnoresWrapContext(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, newKeyring(t), aead.WithWrapContext(shopContext()),
		aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return forgetfulKEK{newKeyring(t)}, nil }))
	_, err := newTenant(t, e, "acme").EncryptWithContext(t.Context(), nil, nil)
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "the key service ignores the wrap context") {
		t.Errorf("%v", err)
	}
}

// forgetfulKEK ignores associated data.
type forgetfulKEK struct{ tink.AEADWithContext }

func (k forgetfulKEK) EncryptWithContext(ctx context.Context, plaintext, _ []byte) ([]byte, error) {
	return k.AEADWithContext.EncryptWithContext(ctx, plaintext, nil)
}

func (k forgetfulKEK) DecryptWithContext(ctx context.Context, ciphertext, _ []byte) ([]byte, error) {
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, nil)
}

func TestWrapContextOptions(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 16 {
		many[fmt.Sprint("name", i)] = "x"
	}
	short := maps.Clone(many)
	delete(short, "name0")
	long := strings.Repeat("x", 64)
	for name, c := range map[string]struct {
		context map[string]string
		ok      bool
	}{
		"nil":               {nil, false},
		"16 names":          {many, false},
		"15 names":          {short, true},
		"longest":           {map[string]string{long: strings.Repeat("v", 256)}, true},
		"long name":         {map[string]string{long + "x": "v"}, false},
		"long value":        {map[string]string{"n": strings.Repeat("v", 257)}, false},
		"empty name":        {map[string]string{"": "v"}, false},
		"empty value":       {map[string]string{"n": ""}, false},
		"quote":             {map[string]string{"n": `v"`}, false},
		"backslash":         {map[string]string{"n": `v\`}, false},
		"line end":          {map[string]string{"n": "v\n"}, false},
		"not ASCII":         {map[string]string{"n": "ü"}, false},
		"invalid UTF-8":     {map[string]string{"n": "\xff"}, false},
		"equals in name":    {map[string]string{"n=": "v"}, false},
		"tenant":            {map[string]string{"tenant": "acme"}, false},
		"reserved by AWS":   {map[string]string{"AWS:x": "v"}, false},
		"Tink's name":       {map[string]string{"associatedData": "00"}, false},
		"every character":   {map[string]string{"a_.-:/9": "a_.-:/@+= 9"}, true},
		"two, one is wrong": {map[string]string{"a": "b", "n": ""}, false},
	} {
		e, err := aead.NewEnvelope(t.Context(), newKeyring(t), aead.WithWrapContext(c.context))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = e.Close()
		}
		if len(c.context) == 0 {
			continue
		}
		e, err = aead.NewEnvelope(t.Context(), newKeyring(t), aead.WithOtherWrapContexts(c.context))
		if (err == nil) != c.ok {
			t.Errorf("%s, as another: %v", name, err)
		}
		if err == nil {
			_ = e.Close()
		}
	}
	if _, err := aead.NewEnvelope(t.Context(), newKeyring(t), aead.WithWrapContext(shopContext()), aead.WithWrapContext(shopContext())); err == nil {
		t.Error("given twice")
	}
	if _, err := aead.NewEnvelope(t.Context(), newKeyring(t), aead.WithOtherWrapContexts(make([]map[string]string, 17)...)); err == nil {
		t.Error("17 others")
	}
	_, err := aead.NewEnvelope(t.Context(), forgetfulKEK{newKeyring(t)}, aead.WithWrapContext(shopContext()))
	if err == nil || !strings.Contains(err.Error(), "the key service ignores the wrap context") {
		t.Errorf("a KEK without associated data: %v", err)
	}
	context := shopContext()
	option := aead.WithWrapContext(context)
	context["namespace"] = "changed"
	kek := &auditedKEK{AEADWithContext: newKeyring(t)}
	newEnvelope(t, kek, option)
	if kek.wraps[0] != shopEncoded {
		t.Errorf("the option shares the caller's map: %q", kek.wraps)
	}
}

func TestParseWrapContext(t *testing.T) {
	t.Parallel()
	got, ok := aead.ParseWrapContext([]byte(shopEncoded))
	if !ok || !maps.Equal(got, shopContext()) {
		t.Errorf("%v, %v", got, ok)
	}
	for _, other := range []string{
		"", "sealcache.wrap.v1 ", "sealcache.wrap.v1 {}", "sealcache.wrap.v1 null", `{"namespace":"shop"}`,
		`sealcache.wrap.v2 {"namespace":"shop"}`,
		`sealcache.wrap.v1 {"namespace": "shop"}`,
		`sealcache.wrap.v1 {"namespace":"shop","app":"web store"}`,
		`sealcache.wrap.v1 {"n":"a","n":"b"}`,
		`sealcache.wrap.v1 {"n":"\u0061"}`,
		`sealcache.wrap.v1 {"n":"a"} `,
		`sealcache.wrap.v1 {"n":1}`,
		`sealcache.wrap.v1 {"associatedData":"00"}`,
		`sealcache.wrap.v1 {"n":"` + strings.Repeat("x", 1<<20) + `"}`,
		"not " + shopEncoded,
	} {
		if got, ok := aead.ParseWrapContext([]byte(other)); ok {
			t.Errorf("%.60q: %v", other, got)
		}
	}
}

// wrapContextVectors is testdata/wrapcontext.json.
type wrapContextVectors struct {
	KEK    json.RawMessage // a plaintext Tink keyset
	Values []struct {
		Context, Tenant        string
		Names                  map[string]string
		Sealed, AssociatedData []byte
		Plaintext              string
	}
}

func TestWrapContextVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/wrapcontext.json")
	if err != nil {
		t.Fatal(err)
	}
	var v wrapContextVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	kek, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource(v.KEK))
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	if len(v.Values) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Values {
		header, _, _ := aead.SplitEnvelope(c.Sealed)
		if _, err := kek.Decrypt(header[4:], []byte(c.Context)); err != nil {
			t.Errorf("%s: %v", c.Context, err)
		}
		e := newEnvelope(t, kek, aead.WithWrapContext(c.Names), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
		var opener tink.AEADWithContext = e
		if c.Tenant != "" {
			opener = newTenant(t, e, c.Tenant)
		}
		got, err := opener.DecryptWithContext(t.Context(), c.Sealed, c.AssociatedData)
		if err != nil || string(got) != c.Plaintext {
			t.Errorf("%s: %q, %v", c.Context, got, err)
		}
	}
}

// FuzzParseWrapContext: a context that is accepted is valid, and has one encoding.
func FuzzParseWrapContext(f *testing.F) {
	f.Add([]byte(shopEncoded))
	f.Add([]byte(`sealcache.wrap.v1 {"a":"b","tenant":"acme"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		context, ok := aead.ParseWrapContext(data)
		if !ok {
			return
		}
		if again := aead.EncodeWrapContext(context); !bytes.Equal(again, data) {
			t.Fatalf("%q is also %q", data, again)
		}
	})
}

// contextTests returns how often the KEK was asked to unwrap with another context.
func (k *auditedKEK) contextTests() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, ad := range k.unwraps {
		if strings.HasPrefix(ad, "not ") {
			n++
		}
	}
	return n
}

// Only the primary of a KEKSet, which wraps, is asked about the context. Otherwise another member that is down or hangs would delay or
// stop new Envelopes, tenants, and Envelopes after a reload.
func TestWrapContextIsTestedByThePrimary(t *testing.T) {
	t.Parallel()
	for how, disturb := range map[string]func(*aeadtest.KeyService){
		"down":  func(other *aeadtest.KeyService) { other.Fail(aeadtest.ErrOutage) },
		"hangs": func(other *aeadtest.KeyService) { other.Gone(true) },
	} {
		primary, other := &auditedKEK{AEADWithContext: newKeyring(t)}, aeadtest.NewKeyService(t)
		disturb(other)
		set := newKEKSet(t, newKEKSet(t, primary, other), aeadtest.NewKeyService(t))
		e := newEnvelope(t, set, aead.WithWrapContext(shopContext()),
			aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return set, nil }))
		sealFor(t, newTenant(t, e, "acme"), "value")
		e.KEKChanged()
		sealFor(t, e, "value")
		if tests, asked := primary.contextTests(), other.Decrypts(); tests != 3 || asked != 0 {
			t.Errorf("%s: the primary was asked %d times, want 3; the other member %d times", how, tests, asked)
		}
	}
}

// A primary that ignores the context is found although another member is down.
func TestOutageHidesNoIgnoredWrapContext(t *testing.T) {
	t.Parallel()
	other := aeadtest.NewKeyService(t)
	other.Fail(aeadtest.ErrOutage)
	set := newKEKSet(t, forgetfulKEK{newKeyring(t)}, other)
	e := newEnvelope(t, newKeyring(t), aead.WithWrapContext(shopContext()),
		aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return set, nil }))
	_, err := newTenant(t, e, "acme").EncryptWithContext(t.Context(), nil, nil)
	_, newErr := aead.NewEnvelope(t.Context(), set, aead.WithLogger(silent()), aead.WithWrapContext(shopContext()))
	for _, err := range []error{err, newErr} {
		if err == nil || !strings.Contains(err.Error(), "the key service ignores the wrap context") {
			t.Errorf("%v", err)
		}
	}
}

// A member of a KEKSet that does not answer must not keep another one from opening what it wrapped with another context.
func TestOtherContextsWhileAMemberDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for how, disturb := range map[string]func(*aeadtest.KeyService){
			"is down": func(other *aeadtest.KeyService) { other.Fail(aeadtest.ErrOutage) },
			"hangs":   func(other *aeadtest.KeyService) { other.Gone(true) },
		} {
			kek, other := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
			tenants := aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return newKEKSet(t, other, kek), nil })
			before := newEnvelope(t, kek, aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
			value, ofTenant := sealFor(t, before, "value"), sealFor(t, newTenant(t, before, "acme"), "value")
			e := newEnvelope(t, newKEKSet(t, newKeyring(t), other, kek), aead.WithWrapContext(shopContext()), aead.WithOtherWrapContexts(nil), tenants)
			disturb(other)
			for name, opened := range map[string]func() (string, error){
				"value":             func() (string, error) { return openFor(e, value) },
				"value of a tenant": func() (string, error) { return openFor(newTenant(t, e, "acme"), ofTenant) },
			} {
				if got, err := opened(); err != nil || got != "value" {
					t.Errorf("while the other member %s: %s: %q, %v", how, name, got, err)
				}
			}
		}
	})
}

// The context counts as tested only by the keyset that wrapped. After a reload between the wrap and the test, the new keyset may
// refuse the old data key with any context.
func TestReloadBeforeTheWrapContextIsTested(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &provedKEK{auditedKEK: &auditedKEK{AEADWithContext: newKeyring(t)}}
		e := newEnvelope(t, kek, aead.WithWrapContext(shopContext()), aead.WithMaxMessages(1))
		before := kek.contextTests()
		kek.proved = func() {
			go e.KEKChanged()
			time.Sleep(time.Millisecond) // until it waits for the new data key
		}
		seal(t, e, "first")
		seal(t, e, "second")
		synctest.Wait()
		if n := kek.contextTests() - before; n != 2 {
			t.Errorf("%d tests since the reload, want one that does not count and one that does", n)
		}
	})
}

// provedKEK calls a function after the next unwrap.
type provedKEK struct {
	*auditedKEK
	proved func()
}

func (k *provedKEK) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	out, err := k.auditedKEK.DecryptWithContext(ctx, ciphertext, ad)
	if f := k.proved; f != nil {
		k.proved = nil
		f()
	}
	return out, err
}
