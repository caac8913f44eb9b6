package aead_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// Making tenants calls no service. When all of them begin at one moment, the calls do not.
func TestTenantsWithoutStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := aeadtest.NewKeyService(t)
		asked := atomic.Int64{}
		e := newEnvelope(t, newKeyring(t), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) {
			asked.Add(1)
			return kek, nil
		}))
		const n = 2000
		var all []tink.AEADWithContext
		for i := range n {
			all = append(all, newTenant(t, e, fmt.Sprint(i)))
		}
		if kek.Encrypts()+kek.Decrypts()+int(asked.Load()) != 0 {
			t.Fatal("a tenant that was not used cost a call")
		}
		kek.Delay(40 * time.Millisecond)
		var group sync.WaitGroup
		for _, a := range all {
			group.Go(func() { sealFor(t, a, "value") })
		}
		group.Wait()
		if most := kek.MostAtOnce(); most > 64 {
			t.Errorf("%d calls at one time", most)
		}
		if asked.Load() != n || kek.Encrypts() != n || kek.Decrypts() != n {
			t.Errorf("%d, %d and %d calls for %d tenants", asked.Load(), kek.Encrypts(), kek.Decrypts(), n)
		}
		_ = e.Close()
	})
}

// A tenant whose key service hangs, and that is flooded with planted values, does not hold up another tenant.
func TestTenantFairness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hanging = 400
		d := &directory{keks: map[string]tink.AEADWithContext{"b": aeadtest.NewKeyService(t)}}
		for i := range hanging {
			s := aeadtest.NewKeyService(t)
			s.Gone(true)
			d.keks[fmt.Sprint("a", i)] = s
		}
		e := newEnvelope(t, newKeyring(t), aead.WithTenants(d.open))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range hanging {
			a := newTenant(t, e, fmt.Sprint("a", i))
			for j := range 8 {
				group.Go(func() {
					planted := append([]byte{0, 0, 0, 60}, bytes.Repeat([]byte{byte(j)}, 200)...)
					for ctx.Err() == nil {
						_, _ = a.DecryptWithContext(ctx, planted, nil)
						_, _ = a.EncryptWithContext(ctx, []byte("x"), nil)
					}
				})
			}
		}
		time.Sleep(24 * time.Second)
		b := newTenant(t, e, "b")
		began := time.Now()
		if got, err := openFor(b, sealFor(t, b, "value")); err != nil || got != "value" {
			t.Errorf("the tenant whose KEK works: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it waited %v", took)
		}
		cancel()
		group.Wait()
		_ = e.Close()
	})
}

// The same for tenants with a KEKSet of which a member hangs, when they read many data keys of this member.
func TestTenantFairnessOfKEKSets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hanging, values = 60, 20
		kek, hung := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
		set := newKEKSet(t, kek, hung)
		writer := newEnvelope(t, hung, aead.WithMaxMessages(1), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return hung, nil }))
		e := newEnvelope(t, kek, aead.WithTenants(func(_ context.Context, id string) (tink.AEADWithContext, error) {
			if id == "b" {
				return kek, nil
			}
			return set, nil
		}))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range hanging {
			id := fmt.Sprint("a", i)
			for j := range values {
				value := sealFor(t, newTenant(t, writer, id), "value")
				group.Go(func() {
					time.Sleep(time.Duration(i+j*hanging) * 10 * time.Millisecond) // not all at once
					for ctx.Err() == nil {
						_, _ = newTenant(t, e, id).DecryptWithContext(ctx, value, []byte("ad"))
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
		hung.Gone(true)
		time.Sleep(time.Minute)
		b := newTenant(t, e, "b")
		began := time.Now()
		if got, err := openFor(b, sealFor(t, b, "value")); err != nil || got != "value" {
			t.Errorf("the tenant whose KEK works: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it waited %v", took)
		}
		cancel()
		group.Wait()
		_ = e.Close()
	})
}

// One tenant that reads very many data keys does not displace those of another.
func TestTenantsShareCache(t *testing.T) {
	t.Parallel()
	busy, quiet := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	d := &directory{keks: map[string]tink.AEADWithContext{"busy": busy, "quiet": quiet}}
	e := newEnvelope(t, newKeyring(t), aead.WithTenants(d.open), aead.WithDataKeyCache(64))
	var ofBusy, ofQuiet [][]byte
	for i := range 104 {
		writer := newEnvelope(t, newKeyring(t), aead.WithTenants(d.open))
		ofBusy = append(ofBusy, sealFor(t, newTenant(t, writer, "busy"), "value"))
		if i < 4 {
			ofQuiet = append(ofQuiet, sealFor(t, newTenant(t, writer, "quiet"), "value"))
		}
		_ = writer.Close()
	}
	readAll := func(id string, values [][]byte) {
		for _, v := range values {
			if _, err := openFor(newTenant(t, e, id), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	readAll("quiet", ofQuiet)
	before := quiet.Decrypts()
	readAll("busy", ofBusy)
	if n := e.Stats().DataKeys; n > 64+64 {
		t.Errorf("%d data keys are held", n)
	}
	readAll("quiet", ofQuiet)
	if n := quiet.Decrypts() - before; n != 0 {
		t.Errorf("%d data keys of the quiet tenant were displaced", n)
	}
}

// 10,000 tenants, each with a data key in use, take at most 200 MiB.
func TestTenantMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes its own memory")
	}
	kek := newKeyring(t)
	e := newEnvelope(t, kek, aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	const n = 10_000
	for i := range n {
		sealFor(t, newTenant(t, e, fmt.Sprint("tenant-", i)), "value")
	}
	if used := int64(heap()) - int64(before); used > 200<<20 {
		t.Errorf("%d tenants take %d MiB", n, used>>20)
	} else {
		t.Logf("%d tenants take %d MiB", n, used>>20)
	}
	runtime.KeepAlive(e)
}
