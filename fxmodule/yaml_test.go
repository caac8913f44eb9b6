package fxmodule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

const fullYAML = `
caches:
  default:
    store: rediss://app@redis.example:6379/0?password_file=/run/secrets/redis
    namespace: shop
    kek: file:///run/secrets/kek.json
    other_keks: [file:///run/secrets/old-kek.json, "passphrase:env:OLD"]
    keyset: /run/secrets/keyset.json
    keyset_name: shop-keys
    keyset_reload: 30s
    cryptoperiod: 2160h
    tenant_keks: file:///run/secrets/tenants/{tenant}.json
    tenant: acme
    wrap_context: {namespace: shop, app: web store}
    wrap_context_state: tolerate
    ttl: 10m
    data_keys:
      max_messages: 1000000
      max_bytes: 1073741824
      max_age: 12h
      cache_size: 64
      ttl: 5m
    plaintext: seal-on-read
    plaintext_until: 2030-01-31T00:00:00Z
    miss_on_open_failure: true
    max_value_bytes: 1048576
  insecure:
    store: memory://?max_bytes=16MiB
    namespace: insecure
    unsealed: true
  names:
    store: memory://
    namespace: names
    kek: file:///run/secrets/kek.json
    hidden_keys: /run/secrets/prf.json
    prf_keyset_name: shop-names
    sealed_expiry: true
    compress_min_bytes: 512
    compress_fast: true
    padding: true
  tokens:
    store: memory://
    namespace: tokens
    kek: file:///run/secrets/kek.json
    one_way_keys: env:PRF
jobs:
  keys_of: default
  namespace: billing
  prf_keyset: env:PRF
  prf_keyset_name: shop-prf
  compress_min_bytes: 256
  max_payload_bytes: 65536
  redis: rediss://app@redis.example:6379/1?password_file=/run/secrets/redis
  queues: {critical: 6, default: 3}
  strict_priority: true
  concurrency: 8
  shutdown_timeout: 6s
  hidden_types: true
  plaintext: read
  plaintext_until: 2030-01-31T00:00:00Z
  schedules:
    catch_up: 30s
key_timeout: 20s
`

// full returns a Config with every setting that has a text form.
func full() fxmodule.Config {
	return fxmodule.Config{
		Caches: map[string]fxmodule.Cache{
			"default": {
				Store:             "rediss://app@redis.example:6379/0?password_file=/run/secrets/redis",
				Namespace:         "shop",
				KEK:               "file:///run/secrets/kek.json",
				OtherKEKs:         []string{"file:///run/secrets/old-kek.json", "passphrase:env:OLD"},
				Keyset:            "/run/secrets/keyset.json",
				KeysetName:        "shop-keys",
				KeysetReload:      30 * time.Second,
				Cryptoperiod:      90 * 24 * time.Hour,
				TenantKEKs:        "file:///run/secrets/tenants/{tenant}.json",
				Tenant:            "acme",
				WrapContext:       map[string]string{"namespace": "shop", "app": "web store"},
				WrapContextState:  "tolerate",
				TTL:               10 * time.Minute,
				DataKeys:          fxmodule.DataKeys{MaxMessages: 1e6, MaxBytes: 1 << 30, MaxAge: 12 * time.Hour, CacheSize: 64, TTL: 5 * time.Minute},
				Plaintext:         middleware.SealOnRead,
				PlaintextUntil:    time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC),
				MissOnOpenFailure: true,
				MaxValueBytes:     1 << 20,
			},
			"insecure": {Store: "memory://?max_bytes=16MiB", Unsealed: true, Namespace: "insecure"},
			"names": {
				Store: "memory://", Namespace: "names", KEK: "file:///run/secrets/kek.json", HiddenKeys: "/run/secrets/prf.json", PRFKeysetName: "shop-names",
				SealedExpiry: true, CompressMinBytes: 512, CompressFast: true, Padding: true,
			},
			"tokens": {Store: "memory://", Namespace: "tokens", KEK: "file:///run/secrets/kek.json", OneWayKeys: "env:PRF"},
		},
		Jobs: fxmodule.Jobs{
			KeysOf: "default", Namespace: "billing", PRFKeyset: "env:PRF", PRFKeysetName: "shop-prf", CompressMinBytes: 256, MaxPayloadBytes: 64 << 10,
			Redis:  "rediss://app@redis.example:6379/1?password_file=/run/secrets/redis",
			Queues: map[string]int{"critical": 6, "default": 3}, StrictPriority: true, Concurrency: 8, ShutdownTimeout: 6 * time.Second,
			HiddenTypes: true, Plaintext: jobs.ReadPlaintext, PlaintextUntil: time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC),
			Schedules: fxmodule.Schedules{CatchUp: 30 * time.Second},
		},
		KeyTimeout: 20 * time.Second,
	}
}

func TestConfigFromYAML(t *testing.T) {
	t.Parallel()
	config, err := fxmodule.ConfigFromYAML(strings.NewReader(fullYAML))
	require.NoError(t, err)
	require.Equal(t, full().Caches, config.Caches)
	require.Equal(t, full().Jobs, config.Jobs)
	require.Equal(t, full().KeyTimeout, config.KeyTimeout)

	t.Run("null is nothing", func(t *testing.T) {
		t.Parallel()
		config, err := fxmodule.ConfigFromYAML(strings.NewReader("jobs:\nkey_timeout: ~\ncaches: {default: {unsealed: true, store: null, data_keys: }}"))
		require.NoError(t, err)
		require.Equal(t, one(fxmodule.Cache{Unsealed: true}).Caches, config.Caches)
	})
	t.Run("aliases", func(t *testing.T) {
		t.Parallel()
		config, err := fxmodule.ConfigFromYAML(strings.NewReader("caches: {a: &a {store: 'memory://', unsealed: true, namespace: n}, b: *a}"))
		require.NoError(t, err)
		require.Equal(t, config.Caches["a"], config.Caches["b"])
	})
	t.Run("within an application's settings", func(t *testing.T) {
		t.Parallel()
		var settings struct {
			Port  int             `yaml:"port"`
			Cache fxmodule.Config `yaml:"cache"`
		}
		require.NoError(t, yaml.Unmarshal([]byte("port: 80\ncache: {caches: {default: {unsealed: true}}}"), &settings))
		require.True(t, settings.Cache.Caches["default"].Unsealed)
		require.ErrorContains(t, yaml.Unmarshal([]byte("cache: {caches: {default: {unseeled: true}}}"), &settings), `YAML: line 1: unknown setting "unseeled"`)
	})
}

func TestConfigFromYAMLRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, want string }{
		"nothing":            {"", "YAML: the text is empty"},
		"comment":            {"# nothing", "YAML: the text is empty"},
		"scalar":             {"42", "line 1: the value is not a group of settings (name: value)"},
		"list":               {"caches: [a]", "line 1: the value is not a group of settings"},
		"unknown at the top": {"cache: {}", `line 1: unknown setting "cache"`},
		"unknown of a cache": {"caches:\n  default:\n    kekk: x", `line 3: unknown setting "kekk"`},
		"unknown of keys":    {"caches: {default: {data_keys: {age: 1h}}}", `unknown setting "age"`},
		"dotted":             {"caches: {default: {data_keys.ttl: 1h}}", `unknown setting "data_keys.ttl"`},
		"not a level":        {"caches: {default: {data_keys: 5}}", "line 1: the value is not a group of settings"},
		"unknown of jobs":    {"jobs: {queue: x}", `line 1: unknown setting "queue"`},
		"codecs":             {"caches: {default: {codecs: [x]}}", `unknown setting "codecs"`},
		"twice":              {"caches: {default: {ttl: 1m, ttl: 2m}}", "line 1: the same name is used twice"},
		"cache twice":        {"caches:\n  a: {unsealed: true}\n  a: {unsealed: true}", "line 3: the same name is used twice"},
		"document":           {"caches: {a: {unsealed: true}}\n---\ncaches: {}", "the text has more than one YAML document"},
		"garbage":            {"caches: {a: {unsealed: true}}\n---\n}", "the text has more than one YAML document"},
		"malformed":          {"caches: {", "the YAML is not well formed"},
		"duration":           {"caches: {default: {ttl: 30}}", "line 1: the value is not a duration such as 90s or 24h"},
		"bool":               {"caches: {default: {unsealed: yes please}}", "line 1: the value must be true or false"},
		"number":             {"caches: {default: {max_value_bytes: 1MiB}}", "the value must be a whole number"},
		"fraction":           {"caches: {default: {max_value_bytes: 0.5}}", "line 1: the number is not a whole number"},
		"fraction of weight": {"caches: {default: {unsealed: true}}\njobs:\n  queues: {critical: 1.5}", "line 3: the number is not a whole number"},
		"infinite":           {"caches: {default: {max_value_bytes: .inf}}", "line 1: the number is not a whole number"},
		"negative":           {"caches: {default: {data_keys: {max_bytes: -1}}}", "the value must be a whole number of at least 0"},
		"policy":             {"caches: {default: {plaintext: accept}}", `plaintext: the plaintext policy must be "reject", "read", "write" or (for caches only) "seal-on-read"`},
		"time":               {"caches: {default: {plaintext_until: tomorrow}}", "plaintext_until: the value is not a time"},
		"weight":             {"caches: {default: {unsealed: true}}\njobs:\n  queues: {critical: much}", "line 3: the value must be a whole number"},
		"weights":            {"jobs: {queues: {critical: [1]}}", "the value must be a whole number"},
		"queue twice":        {"jobs: {queues: {critical: 1, critical: 2}}", "the same name is used twice"},
		"list for a value":   {"caches: {default: {store: [a, b]}}", "line 1: the value must be a string"},
		"key":                {"caches: {[a]: {}}", "line 1: the value must be a string"},
		"text for a list":    {"caches: {default: {other_keks: 'file:///a'}}", "line 1: the value must be a list of strings such as [a, b]"},
		"empty in a list":    {"caches:\n  default:\n    other_keks:\n    - file:///a\n    -\n", "line 5: the list contains an empty value"},
		"cache under null":   {"caches: {a: {unsealed: true}, ~: {unsealed: true}}", "line 1: unknown setting (not a name)"},
		"context under null": {"caches: {a: {wrap_context: {app: web, null: shop}}}", "line 1: unknown setting \"null\""},
		"list for a policy":  {"caches: {default: {plaintext: [read]}}", `line 1: the value must be "reject", "read", "write" or (for caches only) "seal-on-read"`},
		"not valid":          {"caches: {default: {store: 'memory://'}}", "no encryption keys"},
		"too long":           {strings.Repeat("#", 2<<20), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fxmodule.ConfigFromYAML(strings.NewReader(c.yaml))
			require.ErrorContains(t, err, c.want)
		})
	}
}

// A section of a larger file may refer to the rest of it.
func TestYAMLSectionWithAliases(t *testing.T) {
	t.Parallel()
	decode := func(text string) (fxmodule.Config, error) {
		var settings struct {
			Cache fxmodule.Config `yaml:"cache"`
		}
		err := yaml.Unmarshal([]byte(text), &settings)
		return settings.Cache, err
	}
	sealed := fxmodule.Cache{Store: "memory://", KEK: "env:KEK", Namespace: "a"}
	for name, text := range map[string]string{
		"value":        "store: &s memory://\ncache:\n  caches:\n    default: {store: *s, kek: env:KEK, namespace: a}",
		"long value":   "store: &s |-\n  memory://\ncache:\n  caches:\n    default: {store: *s, kek: env:KEK, namespace: a}",
		"cache":        "x: &x\n  # kept in memory\n  store: memory:// # here\n  kek: env:KEK\n  namespace: a\ncache:\n  caches:\n    default: *x",
		"merge":        "x: &x\n  store: memory://\n  kek: env:KEK\n  namespace: x\ncache:\n  caches:\n    default:\n      <<: *x\n      namespace: a",
		"merges":       "x: &x {store: memory://}\ny: &y {kek: env:KEK, store: x}\ncache:\n  caches:\n    default:\n      <<: [*x, *y]\n      namespace: a",
		"merged merge": "x: &x {kek: env:KEK}\ny: &y\n  <<: *x\n  store: memory://\ncache: {caches: {default: {<<: *y, namespace: a}}}",
		"null":         "x: &x\n  store: memory://\n  kek: env:KEK\n  other_keks:\n  ttl:\ncache:\n  caches:\n    default:\n      <<: *x\n      namespace: a",
		"null value":   "x: &x\ncache: {caches: {default: {store: memory://, kek: env:KEK, namespace: a, ttl: *x}}}",
		"section":      "x: &x\n  caches:\n    default:\n      store: memory://\n      kek: env:KEK\n      namespace: a\ncache: *x",
	} {
		config, err := decode(text)
		require.NoError(t, err, name)
		require.Equal(t, map[string]fxmodule.Cache{"default": sealed}, config.Caches, name)
	}
	config, err := decode("cache: {caches: {a: &a {store: memory://, kek: env:KEK, namespace: a}, b: {<<: *a, namespace: b}}}")
	require.NoError(t, err, "an anchor of the section")
	require.Equal(t, sealed, config.Caches["a"])
	require.Equal(t, "b", config.Caches["b"].Namespace)

	config, err = decode("x: &x\n  plaintext_until: 2026-11-30 12:00:00\ncache: {caches: {default: {<<: *x, store: memory://}}}")
	require.NoError(t, err, "an instant")
	require.Equal(t, 12, config.Caches["default"].PlaintextUntil.Hour())

	deep := "a0: &a0 [x]\n"
	for i := range 200 {
		deep += fmt.Sprintf("a%d: &a%d [*a%d]\n", i+1, i+1, i)
	}
	tagged := "a: &a !<" + strings.Repeat("t", 2000) + "> x\ncache: {caches: {default: {other_keks: [" + strings.Repeat("*a, ", 1000) + "x]}}}"
	bomb := "a0: &a0 [" + strings.Repeat("x, ", 9) + "x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	many := "x: &x\n  kek: env:KEK\n  store: memory://\n  namespace: a\ncache:\n  caches:\n    a: *x\n    b: "
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown":        {"x: &x {kekk: env:KEK}\ncache: {caches: {default: *x}}", `YAML: line 1: unknown setting "kekk"`},
		"unknown merged": {"x: &x\n  kekk: env:KEK\ncache:\n  caches:\n    default:\n      <<: *x", `line 2: unknown setting "kekk"`},
		"after an alias": {many + "{kekk: x}", `YAML: line 8: unknown setting "kekk"`},
		"twice":          {many + "*x\n    b: *x", "line 9: the same name is used twice"},
		"setting twice":  {"x: &x env:KEK\ncache: {caches: {default: {kek: *x, kek: *x}}}", "line 2: the same name is used twice"},
		"fraction":       {"x: &x 0.5\ncache: {caches: {default: {max_value_bytes: *x}}}", "line 1: the number is not a whole number"},
		"merge of text":  {"x: &x env:KEK\ncache: {caches: {default: {<<: *x}}}", "the YAML is not well formed"},
		"itself":         {"cache: &c {caches: {default: *c}}", "YAML: line 1: the anchor contains itself"},
		"levels":         {deep + "cache: {caches: {default: {other_keks: *a200}}}", "the settings and their aliases have more than 100 levels"},
		"long tags":      {tagged, "the settings and their aliases have more than 1048576 bytes"},
		"bomb":           {bomb + "cache: {caches: {default: {other_keks: *a12}}}", "the settings and their aliases have more than 1048576 bytes"},
	} {
		_, err := decode(c.yaml)
		require.ErrorContains(t, err, c.want, name)
	}
}

// The lines of errors are those of the file, also after texts of several lines, comments, blank lines and values on lines
// below their names.
func TestYAMLSectionErrorsHaveTheLinesOfTheFile(t *testing.T) {
	t.Parallel()
	const before = "port: 80\n\ncache:\n\n  # caches\n  caches:\n    default:\n      store: |-\n        memory://\n\n      other_keks:\n      -\n\n        env:OLD\n" // 14 lines
	for want, after := range map[string]string{
		`line 17: unknown setting "kekk"`:                                      "\n\n      kekk: x\n",
		"line 16: the value is not a duration such as 90s or 24h":              "      ttl:\n        tomorrow\n",
		"line 17: the same name is used twice":                                 "      namespace: >-\n        a\n      namespace: b\n",
		"line 16: the number is not a whole number":                            "      max_value_bytes:\n        0.5\n",
		`line 16: unknown setting "a"` + "\n" + `line 17: unknown setting "b"`: "      data_keys: {\n        a: 1,\n        b: 2}\n",
		`line 19: unknown setting "c"`:                                         "      data_keys: {max_age: 1h,\n\n\n        max_bytes: 1,\n        c: 2}\n",
	} {
		var settings struct {
			Port  int             `yaml:"port"`
			Cache fxmodule.Config `yaml:"cache"`
		}
		require.ErrorContains(t, yaml.Unmarshal([]byte(before+after), &settings), "fxmodule: YAML: "+want)
	}
}

// An error about a file quotes no text, because it may be a password.
func TestYAMLErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"caches: " + secret,
		"caches: {default: redis://:" + secret + "@h}",
		"caches: {default: {store redis://:" + secret + "@h}}",
		"caches: {default: {store: *" + secret + "}}",
		"caches: {default: {store: [redis://:" + secret + "@h]}}",
		"caches: {default: {ttl: " + secret + ", unsealed: " + secret + ", max_value_bytes: " + secret + ", plaintext: " + secret + ", plaintext_until: " + secret + "}}",
		"caches: {default: {store: 'redis://:" + secret + "@h', kek: 'x://" + secret + "', namespace: '" + secret + "!'}}",
		"caches: {default: {store: 'memory://', keyset: 'file://" + secret + "/x', kek: 'x:'}}",
		"caches: {default: {store: \"redis://:" + secret + "@h\n",
		"caches:\n\tdefault: " + secret,
		"caches: {default: !" + secret + " x}",
		"caches: {default: {store: !!int redis://:" + secret + "@h}}",
		"jobs: {namespace: '" + secret + " ', keys_of: ':" + secret + "'}\ncaches: {default: {unsealed: true}}",
		"caches: {'redis://:" + secret + "@h': {unsealed: true, kek: x}}",
		"jobs: {queues: {'redis://:" + secret + "@h': x}}",
		"jobs: {queues: " + secret + ", redis: [" + secret + "]}",
		"%" + secret + "\n---\n",
	} {
		_, err := fxmodule.ConfigFromYAML(strings.NewReader(s))
		require.Error(t, err, s)
		require.NotContains(t, err.Error(), secret, s)
		var c fxmodule.Config
		if err := yaml.Unmarshal([]byte(s), &c); err != nil && strings.Contains(err.Error(), "fxmodule") {
			require.NotContains(t, err.Error(), secret, s)
		}
	}
}

func FuzzConfigFromYAML(f *testing.F) {
	f.Add(fullYAML)
	f.Add("caches: {a: &a {unsealed: true}, b: *a}")
	f.Add("caches: &x {default: *x}")
	f.Add("<<: {a: b}")
	f.Fuzz(func(t *testing.T, s string) {
		config, err := fxmodule.ConfigFromYAML(strings.NewReader(s))
		if err == nil && config.Validate() != nil {
			t.Fatal("a Config was returned that is not valid")
		}
	})
}
