package main

import (
	"bytes"
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// cacheEvidence describes a cache of the application's settings.
type cacheEvidence struct {
	Name       string    `json:"name"`
	Namespace  string    `json:"namespace"`
	Store      string    `json:"store"` // without credentials; empty if the application provides it
	TLS        bool      `json:"tls"`
	Sealed     bool      `json:"sealed"`
	Plaintext  string    `json:"plaintext"` // the policy
	Until      time.Time `json:"plaintext_until,omitzero"`
	Tolerates  bool      `json:"accepts_plaintext"` // when the report was made
	Names      string    `json:"names"`             // plain, hidden or one-way
	Tenant     string    `json:"tenant,omitempty"`
	TenantKEKs string    `json:"tenant_keks,omitempty"` // a template, without credentials
	Expiry     bool      `json:"sealed_expiry"`

	Context      map[string]string `json:"wrap_context,omitempty"`
	ContextState string            `json:"wrap_context_state,omitempty"`

	Padding    bool    `json:"padding"`
	DataKeyAge float64 `json:"data_key_max_age_seconds,omitempty"` // missing: the default
	DataKeyTTL float64 `json:"data_key_ttl_seconds,omitempty"`     // missing: the default
}

// jobsEvidence describes the jobs of the application's settings.
type jobsEvidence struct {
	KeysOf    string    `json:"keys_of"`
	Namespace string    `json:"namespace"`
	Redis     string    `json:"redis,omitempty"` // without credentials
	TLS       bool      `json:"tls"`
	Plaintext string    `json:"plaintext"`
	Until     time.Time `json:"plaintext_until,omitzero"`
	Tolerates bool      `json:"accepts_plaintext"`
	Types     bool      `json:"hidden_types"`
}

// settings reports the caches and jobs of --config, and returns the keysets of them and of the flags.
func (e *evidenceRun) settings(r *evidence) ([]wantedKeyset, error) {
	var wanted []wantedKeyset
	if e.config == "" {
		r.NotExamined = append(r.NotExamined, "caches and jobs: no --config was given")
	} else {
		config, err := e.readConfig()
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(config.Caches)) {
			cache := config.Caches[name]
			r.Caches = append(r.Caches, describeCache(name, cache, r.Made))
			wanted = append(wanted, cacheKeysets(name, cache)...)
		}
		var tokens []wantedKeyset
		r.Jobs, tokens = describeJobs(config, r.Made)
		wanted = append(wanted, tokens...)
	}
	if e.keys.kek != "" {
		wanted = append(wanted, wantedKeyset{
			origin: "--kek", kek: e.keys.kek, others: e.keys.others, keyset: e.keys.keyset, name: e.keys.name, use: useDataKey,
			context: e.context, contextState: e.contextState,
		})
	}
	return wanted, nil
}

// readConfig reads the settings as the application does.
func (e *evidenceRun) readConfig() (fxmodule.Config, error) {
	if e.config == "env" {
		config, err := fxmodule.ConfigFromEnviron(applicationEnvironment())
		return config, configFlagError(err)
	}
	return e.fileConfig()
}

// fileConfig reads the settings in the file of --config, if one is given.
func (e *evidenceRun) fileConfig() (fxmodule.Config, error) {
	if e.config == "" || e.config == "env" {
		return fxmodule.Config{}, nil
	}
	data, err := readInput(e.config)
	if err != nil {
		return fxmodule.Config{}, configFlagError(err)
	}
	config, err := fxmodule.ConfigFromYAML(bytes.NewReader(data))
	return config, configFlagError(err)
}

// configFlagError names the flag --config in an error.
func configFlagError(err error) error {
	if err != nil {
		err = wrong("--config: %w", err)
	}
	return err
}

func describeCache(name string, c fxmodule.Cache, now time.Time) cacheEvidence {
	d := cacheEvidence{
		Name: name, Namespace: c.Namespace, Sealed: !c.Unsealed, Plaintext: c.Plaintext.String(), Until: c.PlaintextUntil,
		Names: "plain", Expiry: c.SealedExpiry, Padding: c.Padding,
	}
	d.Store, d.TLS = publicStore(c.Store)
	d.Tolerates = c.Unsealed || accepts(c.Plaintext != middleware.RejectPlaintext, c.PlaintextUntil, now)
	if c.Unsealed {
		d.Plaintext = "unsealed"
	}
	d.Tenant = c.Tenant
	if c.TenantKEKs != "" {
		d.TenantKEKs = publicURI(c.TenantKEKs)
	}
	switch {
	case c.HiddenKeys != "":
		d.Names = "hidden"
	case c.OneWayKeys != "":
		d.Names = "one-way"
	}
	d.Context, d.ContextState = c.WrapContext, stateOfContext(c.WrapContext, c.WrapContextState)
	d.DataKeyAge, d.DataKeyTTL = c.DataKeys.MaxAge.Seconds(), c.DataKeys.TTL.Seconds()
	return d
}

// accepts reports whether plaintext is accepted at a time.
func accepts(policy bool, until, now time.Time) bool {
	return policy && (until.IsZero() || now.Before(until))
}

// cacheKeysets returns the keysets of a sealed cache.
func cacheKeysets(name string, c fxmodule.Cache) []wantedKeyset {
	if c.Unsealed {
		return nil
	}
	origin := "cache " + name
	wanted := []wantedKeyset{{
		origin: origin, kek: c.KEK, others: c.OtherKEKs, keyset: c.Keyset, name: c.KeysetName, use: useDataKey,
		cryptoperiod: c.Cryptoperiod, context: c.WrapContext, contextState: c.WrapContextState,
	}}
	if c.Tenant != "" {
		tenant := wantedKeyset{origin: origin, kek: strings.ReplaceAll(c.TenantKEKs, "{tenant}", c.Tenant), use: useDataKey}
		if len(c.WrapContext) > 0 {
			tenant.context, tenant.contextState = maps.Clone(c.WrapContext), c.WrapContextState
			tenant.context["tenant"] = c.Tenant // as Envelope.Tenant does
		}
		wanted = append(wanted, tenant)
	}
	for _, source := range []string{c.HiddenKeys, c.OneWayKeys} {
		if source != "" {
			wanted = append(wanted, wantedKeyset{origin: origin, kek: c.KEK, others: c.OtherKEKs, keyset: source, name: c.PRFKeysetName, use: useNames})
		}
	}
	return wanted
}

// describeJobs returns nil if the settings have no jobs.
func describeJobs(config fxmodule.Config, now time.Time) (*jobsEvidence, []wantedKeyset) {
	j := config.Jobs
	if j.String() == (fxmodule.Jobs{}).String() {
		return nil, nil
	}
	d := &jobsEvidence{KeysOf: cmp.Or(j.KeysOf, fxmodule.Default), Namespace: j.Namespace, Plaintext: j.Plaintext.String(), Until: j.PlaintextUntil, Types: j.HiddenTypes}
	d.Redis, d.TLS = publicStore(j.Redis)
	d.Tolerates = accepts(j.Plaintext != jobs.RejectPlaintext, j.PlaintextUntil, now)
	if j.PRFKeyset == "" {
		return d, nil
	}
	above := config.Caches[d.KeysOf]
	return d, []wantedKeyset{{
		origin: "jobs", kek: above.KEK, others: above.OtherKEKs, keyset: j.PRFKeyset, name: j.PRFKeysetName, use: useTokens,
	}}
}

// publicStore returns the URL of a store without user, password and options, and whether it uses TLS.
func publicStore(s string) (shown string, tls bool) {
	if s == "" {
		return "", false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return "...", false
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath(), strings.HasPrefix(u.Scheme, "rediss")
}
