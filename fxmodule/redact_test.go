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
)

func secretConfig() fxmodule.Config {
	return fxmodule.Config{
		Caches: map[string]fxmodule.Cache{
			"default":                 {Store: "redis://:" + secret + "@h", KEK: "hcvault://" + secret, Keyset: "/run/" + secret},
			"sessions":                {Store: secret, KEK: secret + ":x", Keyset: "env:" + secret, Namespace: secret + "\n"},
			"redis://" + secret + "@": {Clear: true},
		},
		Jobs: fxmodule.Jobs{
			PRFKeyset: secret, Namespace: ":" + secret, Cache: ":" + secret,
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
		var text, js logs
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "v", v)
		require.NotContains(t, text.String()+js.String(), secret, name)
		require.NotEmpty(t, text.String())
	}
	require.Equal(t, config.String(), config.GoString())
	require.Equal(t, config.Jobs.String(), config.Jobs.GoString())
	require.Equal(t, config.Caches["default"].String(), config.Caches["default"].GoString())
}

// What is shown is enough to see what is in force.
func TestConfigString(t *testing.T) {
	t.Parallel()
	require.Equal(t, `fxmodule.Config{"default": {store: rediss:..., namespace: "shop", ttl: 10m0s, kek: file:..., keyset: file, `+
		`keyset_reload: 30s, data_keys.max_messages: 1000000, data_keys.max_bytes: 1073741824, data_keys.max_age: 12h0m0s, `+
		`data_keys.cache: 64, data_keys.ttl: 5m0s, plaintext: seal-on-read, plaintext_until: 2030-01-31T00:00:00Z, `+
		`miss_on_open_failure: true, max_value_bytes: 1048576}, "insecure": {store: memory:..., clear: true}, `+
		`jobs: {cache: "default", namespace: "billing", prf_keyset: env:..., compress_min_bytes: 256, max_payload_bytes: 65536, `+
		`redis: rediss:..., queues: {"critical": 6, "default": 3}, strict_priority: true, concurrency: 8, shutdown_timeout: 6s, `+
		`no_server: true, hidden_types: true, clear_until: 2030-01-31T00:00:00Z, schedules.poll: 2s, schedules.catch_up: 30s}, `+
		`key_timeout: 20s}`, full().String())
}

// Passwords in URLs stay out of everything that a failing application says: errors, its own log and fx's.
func TestFailuresShowNoSecret(t *testing.T) {
	t.Parallel()
	kek := kekFile(t) + "?reload=off"
	for name, config := range map[string]fxmodule.Config{
		"Config itself":    secretConfig(),
		"Redis down":       one(fxmodule.Cache{Store: "redis://app:" + secret + "@127.0.0.1:1/0", KEK: kek}),
		"Redis down clear": one(fxmodule.Cache{Store: "redis://app:" + secret + "@127.0.0.1:1/0", Clear: true}),
		"not a URL":        one(fxmodule.Cache{Store: "redis://app:" + secret + "@h:port/0", KEK: kek}),
		"unknown store":    one(fxmodule.Cache{Store: secret + "://h", KEK: kek}),
		"unknown option":   one(fxmodule.Cache{Store: "redis://:" + secret + "@h?x=" + secret, KEK: kek}),
		"unknown KEK":      one(fxmodule.Cache{Store: "memory://", KEK: "hcvault://" + secret}),
		"KEK file":         one(fxmodule.Cache{Store: "memory://", KEK: "file://" + secret + "@/x"}),
		"KEK":              one(fxmodule.Cache{Store: "memory://", KEK: secret}),
		"no KEK file":      one(fxmodule.Cache{Store: "memory://", KEK: "file:///" + secret}),
		"no KEK variable":  one(fxmodule.Cache{Store: "memory://", KEK: "passphrase:env:" + secret}),
		"no passphrase":    one(fxmodule.Cache{Store: "memory://", KEK: "passphrase:file:/" + secret}),
		"no keyset":        one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: "/run/" + secret}),
		"no keyset here":   one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: secret}),
		"no variable":      one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: "env:" + secret}),
		"no PRF keyset":    {Caches: one(fxmodule.Cache{Store: "memory://", KEK: kek}).Caches, Jobs: fxmodule.Jobs{PRFKeyset: secret}},
		"no PRF variable":  {Caches: one(fxmodule.Cache{Store: "memory://", KEK: kek}).Caches, Jobs: fxmodule.Jobs{PRFKeyset: "env:" + secret}},
		"no password file": one(fxmodule.Cache{Store: "redis://u@h?password_file=/" + secret, KEK: kek}),
		"no password":      one(fxmodule.Cache{Store: "redis://u@h?password_env=" + secret, KEK: kek}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var own, fxs logs
			app := fx.New(fx.WithLogger(func() fxevent.Logger { return &fxevent.SlogLogger{Logger: fxs.logger()} }),
				fx.Supply(config, own.logger()), fxmodule.Module)
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

// What Config's documentation advises where fmt calls no methods.
func TestPointerInAnUnexportedField(t *testing.T) {
	t.Parallel()
	config := secretConfig()
	type app struct{ config *fxmodule.Config }
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		require.NotContains(t, fmt.Sprintf(verb, app{&config}), secret)
		require.NotContains(t, fmt.Sprintf(verb, &app{&config}), secret)
	}
}
