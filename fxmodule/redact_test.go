package fxmodule_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.yaml.in/yaml/v3"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
)

func secretConfig() fxmodule.Config {
	return fxmodule.Config{
		Caches: map[string]fxmodule.Cache{
			"default":                 {Store: "redis://:" + secret + "@h", KEK: "hcvault://" + secret, TenantKEKs: "hcvault://" + secret, Tenant: secret + "!", OtherKEKs: []string{secret, "hcvault://" + secret}, Keyset: "/run/" + secret},
			"sessions":                {Store: secret, KEK: secret + ":x", Keyset: "env:" + secret, Namespace: secret + "\n"},
			"redis://" + secret + "@": {Unsealed: true},
		},
		Jobs: fxmodule.Jobs{
			PRFKeyset: secret, Namespace: ":" + secret, KeysOf: ":" + secret,
			Redis: "redis://:" + secret + "@h", Queues: map[string]int{"redis://" + secret + "@h": -1, " ": 1},
		},
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	t.Parallel()
	config := secretConfig()
	type part struct{ Inner any }
	for name, v := range map[string]any{
		"Config": config, "*Config": &config, "Cache": config.Caches["default"], "Jobs": config.Jobs,
		"field": part{config}, "slice": []fxmodule.Cache{config.Caches["sessions"]},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t", "%10v"} {
			require.NotContains(t, fmt.Sprintf(verb, v), secret, "%s %s", name, verb)
			require.NotContains(t, fmt.Sprintf(verb, v), fmt.Sprintf("%x", secret), "%s %s", name, verb)
		}
		require.NotContains(t, fmt.Sprint(v), secret)
		b, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(b), secret, name)
		b, err = yaml.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(b), secret, name)
		var text, js sealtest.Logs
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "v", v)
		require.NotContains(t, text.String()+js.String(), secret, name)
		require.NotEmpty(t, text.String())
	}
	require.Equal(t, config.String(), config.GoString())
	require.Equal(t, config.Jobs.String(), config.Jobs.GoString())
	require.Equal(t, config.Caches["default"].String(), config.Caches["default"].GoString())
}

// A printed Config shows which settings are in force.
func TestConfigString(t *testing.T) {
	t.Parallel()
	require.Equal(t, `fxmodule.Config{"default": {store: rediss:..., namespace: "shop", ttl: 10m0s, kek: file:..., other_keks: [file:..., passphrase:...], keyset: file, `+
		`keyset_name: "shop-keys", keyset_reload: 30s, cryptoperiod: 2160h0m0s, tenant_keks: file:..., tenant: "acme", wrap_context: 2, wrap_context_state: "tolerate", data_keys.max_messages: 1000000, data_keys.max_bytes: 1073741824, data_keys.max_age: 12h0m0s, `+
		`data_keys.cache_size: 64, data_keys.ttl: 5m0s, plaintext: seal-on-read, plaintext_until: 2030-01-31T00:00:00Z, `+
		`miss_on_open_failure: true, max_value_bytes: 1048576}, "insecure": {store: memory:..., namespace: "insecure", unsealed: true}, `+
		`"names": {store: memory:..., namespace: "names", kek: file:..., hidden_keys: file, prf_keyset_name: "shop-names", sealed_expiry: true, `+
		`compress_min_bytes: 512, compress_fast: true, padding: true}, `+
		`"tokens": {store: memory:..., namespace: "tokens", kek: file:..., one_way_keys: env:...}, `+
		`jobs: {keys_of: "default", namespace: "billing", prf_keyset: env:..., prf_keyset_name: "shop-prf", compress_min_bytes: 256, max_payload_bytes: 65536, `+
		`redis: rediss:..., queues: {"critical": 6, "default": 3}, strict_priority: true, concurrency: 8, shutdown_timeout: 6s, `+
		`hidden_types: true, plaintext: read, plaintext_until: 2030-01-31T00:00:00Z, schedules.catch_up: 30s}, `+
		`key_timeout: 20s}`, full().String())
}

// A failing application shows no password of a URL: in errors, its own log and fx's.
func TestFailuresShowNoSecret(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t) + "?reload=off"
	for name, config := range map[string]fxmodule.Config{
		"Config itself":        secretConfig(),
		"Redis down":           one(fxmodule.Cache{Store: "redis://app:" + secret + "@127.0.0.1:1/0", KEK: kek}),
		"Redis down, unsealed": one(fxmodule.Cache{Store: "redis://app:" + secret + "@127.0.0.1:1/0", Unsealed: true}),
		"not a URL":            one(fxmodule.Cache{Store: "redis://app:" + secret + "@h:port/0", KEK: kek}),
		"unknown store":        one(fxmodule.Cache{Store: secret + "://h", KEK: kek}),
		"unknown option":       one(fxmodule.Cache{Store: "redis://:" + secret + "@h?x=" + secret, KEK: kek}),
		"unknown KEK":          one(fxmodule.Cache{Store: "memory://", KEK: "hcvault://" + secret}),
		"KEK file":             one(fxmodule.Cache{Store: "memory://", KEK: "file://" + secret + "@/x"}),
		"KEK":                  one(fxmodule.Cache{Store: "memory://", KEK: secret}),
		"keyset":               one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: secret}),
		"keyset variable":      one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: "env:" + secret}),
		"PRF keyset":           {Caches: one(fxmodule.Cache{Store: "memory://", KEK: kek, Namespace: "ns"}).Caches, Jobs: fxmodule.Jobs{PRFKeyset: secret}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var own, fxs sealtest.Logs
			app := fx.New(fx.WithLogger(func() fxevent.Logger { return &fxevent.SlogLogger{Logger: fxs.Logger()} }),
				fx.Supply(config, own.Logger()), fxmodule.Module)
			err := app.Err()
			if err == nil {
				err = app.Start(t.Context())
			}
			require.Error(t, err)
			for _, said := range []string{err.Error(), fmt.Sprintf("%+v", err), own.String(), fxs.String()} {
				require.False(t, strings.Contains(said, secret), "%s", said)
			}
		})
	}
}

// An error names the missing file or variable.
func TestErrorsNameMissingFilesAndVariables(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t) + "?reload=off"
	cache := func(store, kek, keyset string) fxmodule.Config {
		return one(fxmodule.Cache{Store: store, KEK: kek, Keyset: keyset, Namespace: "ns"})
	}
	prf := cache("memory://", kek, "")
	prf.Jobs.PRFKeyset = "/run/secrets/missing-prf.json"
	prfVariable := prf
	prfVariable.Jobs.PRFKeyset = "env:MISSING_PRF"
	for want, config := range map[string]fxmodule.Config{
		"/run/secrets/missing-kek.json":    cache("memory://", "file:///run/secrets/missing-kek.json", ""),
		"MISSING_PASSPHRASE":               cache("memory://", "passphrase:env:MISSING_PASSPHRASE", ""),
		"/run/secrets/missing-passphrase":  cache("memory://", "passphrase:file:/run/secrets/missing-passphrase", ""),
		"/run/secrets/missing-keyset.json": cache("memory://", kek, "/run/secrets/missing-keyset.json"),
		"/run/secrets/missing-url.json":    cache("memory://", kek, "file:///run/secrets/missing-url.json"),
		"MISSING_KEYSET":                   cache("memory://", kek, "env:MISSING_KEYSET"),
		"/run/secrets/missing-prf.json":    prf,
		"MISSING_PRF":                      prfVariable,
		"/run/secrets/missing-password":    cache("redis://u@h?password_file=/run/secrets/missing-password", kek, ""),
		"MISSING_PASSWORD":                 cache("redis://u@h?password_env=MISSING_PASSWORD", kek, ""),
	} {
		require.ErrorContains(t, newApp(config).Err(), want)
	}
}

// A *Config in an unexported field is printed as an address, as Config's documentation advises.
func TestPointerInAnUnexportedField(t *testing.T) {
	t.Parallel()
	config := secretConfig()
	type app struct{ config *fxmodule.Config }
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		require.NotContains(t, fmt.Sprintf(verb, app{&config}), secret)
		require.NotContains(t, fmt.Sprintf(verb, &app{&config}), secret)
	}
}
