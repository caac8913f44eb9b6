package fxmodule_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule"
)

// setenv replaces all SEALCACHE_ variables.
func setenv(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SEALCACHE_") {
			t.Setenv(name, "") // so that it is restored
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

var everyVariable = []string{
	"SEALCACHE_STORE=rediss://app@redis.example:6379/0?password_file=/run/secrets/redis",
	"SEALCACHE_NAMESPACE=shop",
	"SEALCACHE_UNSEALED=false",
	"SEALCACHE_KEK=file:///run/secrets/kek.json",
	"SEALCACHE_OTHER_KEKS=file:///run/secrets/old-kek.json,passphrase:env:OLD",
	"SEALCACHE_KEYSET=/run/secrets/keyset.json",
	"SEALCACHE_KEYSET_NAME=shop-keys",
	"SEALCACHE_KEYSET_RELOAD=30s",
	"SEALCACHE_CRYPTOPERIOD=2160h",
	"SEALCACHE_TENANT_KEKS=file:///run/secrets/tenants/{tenant}.json",
	"SEALCACHE_TENANT=acme",
	"SEALCACHE_WRAP_CONTEXT=namespace=shop,app=web store",
	"SEALCACHE_WRAP_CONTEXT_STATE=tolerate",
	"SEALCACHE_TTL=10m",
	"SEALCACHE_DATA_KEYS_MAX_MESSAGES=1000000",
	"SEALCACHE_DATA_KEYS_MAX_BYTES=1073741824",
	"SEALCACHE_DATA_KEYS_MAX_AGE=12h",
	"SEALCACHE_DATA_KEYS_CACHE_SIZE=64",
	"SEALCACHE_DATA_KEYS_TTL=5m",
	"SEALCACHE_PLAINTEXT=seal-on-read",
	"SEALCACHE_PLAINTEXT_UNTIL=2030-01-31T00:00:00Z",
	"SEALCACHE_MISS_ON_OPEN_FAILURE=true",
	"SEALCACHE_MAX_VALUE_BYTES=1048576",
	"SEALCACHE_JOBS_KEYS_OF=default",
	"SEALCACHE_JOBS_NAMESPACE=billing",
	"SEALCACHE_JOBS_PRF_KEYSET=env:PRF",
	"SEALCACHE_JOBS_PRF_KEYSET_NAME=shop-prf",
	"SEALCACHE_JOBS_COMPRESS_MIN_BYTES=256",
	"SEALCACHE_JOBS_MAX_PAYLOAD_BYTES=65536",
	"SEALCACHE_JOBS_REDIS=rediss://app@redis.example:6379/1?password_file=/run/secrets/redis",
	"SEALCACHE_JOBS_QUEUES=critical=6,default=3",
	"SEALCACHE_JOBS_STRICT_PRIORITY=true",
	"SEALCACHE_JOBS_CONCURRENCY=8",
	"SEALCACHE_JOBS_SHUTDOWN_TIMEOUT=6s",
	"SEALCACHE_JOBS_HIDDEN_TYPES=true",
	"SEALCACHE_JOBS_PLAINTEXT=read",
	"SEALCACHE_JOBS_PLAINTEXT_UNTIL=2030-01-31T00:00:00Z",
	"SEALCACHE_JOBS_SCHEDULES_CATCH_UP=30s",
	"SEALCACHE_KEY_TIMEOUT=20s",
	"SEALCACHE_CACHES_INSECURE_STORE=memory://?max_bytes=16MiB",
	"SEALCACHE_CACHES_INSECURE_UNSEALED=true",
	"SEALCACHE_CACHES_INSECURE_NAMESPACE=insecure",
	"SEALCACHE_CACHES_NAMES_STORE=memory://",
	"SEALCACHE_CACHES_NAMES_NAMESPACE=names",
	"SEALCACHE_CACHES_NAMES_KEK=file:///run/secrets/kek.json",
	"SEALCACHE_CACHES_NAMES_HIDDEN_KEYS=/run/secrets/prf.json",
	"SEALCACHE_CACHES_NAMES_PRF_KEYSET_NAME=shop-names",
	"SEALCACHE_CACHES_NAMES_SEALED_EXPIRY=true",
	"SEALCACHE_CACHES_NAMES_COMPRESS_MIN_BYTES=512",
	"SEALCACHE_CACHES_NAMES_COMPRESS_FAST=true",
	"SEALCACHE_CACHES_NAMES_PADDING=true",
	"SEALCACHE_CACHES_TOKENS_STORE=memory://",
	"SEALCACHE_CACHES_TOKENS_NAMESPACE=tokens",
	"SEALCACHE_CACHES_TOKENS_KEK=file:///run/secrets/kek.json",
	"SEALCACHE_CACHES_TOKENS_ONE_WAY_KEYS=env:PRF",
}

func TestConfigFromEnv(t *testing.T) {
	setenv(t, everyVariable...)
	config, err := fxmodule.ConfigFromEnv()
	require.NoError(t, err)
	require.Equal(t, full().Caches, config.Caches)
	require.Equal(t, full().Jobs, config.Jobs)
	require.Equal(t, full().KeyTimeout, config.KeyTimeout)
}

func TestConfigFromEnvNamesDefaultEitherWay(t *testing.T) {
	setenv(t, "SEALCACHE_CACHES_DEFAULT_STORE=memory://", "SEALCACHE_KEK=file:///kek", "SEALCACHE_UNKNOWN_BUT_EMPTY=")
	config, err := fxmodule.ConfigFromEnv()
	require.NoError(t, err)
	require.Equal(t, one(fxmodule.Cache{Store: "memory://", KEK: "file:///kek"}).Caches, config.Caches)
}

func TestConfigFromEnvSplitsNames(t *testing.T) {
	setenv(t, "SEALCACHE_CACHES_USER_SESSIONS_UNSEALED=true", "SEALCACHE_CACHES_USER_SESSIONS_MAX_VALUE_BYTES=",
		"SEALCACHE_CACHES_USER_SESSIONS_NAMESPACE=u", "SEALCACHE_CACHES_A_NAMESPACE=a",
		"SEALCACHE_CACHES_A_KEK=file:///kek", "SEALCACHE_CACHES_A_STORE=memory://", "SEALCACHE_CACHES_A_DATA_KEYS_TTL=1m")
	config, err := fxmodule.ConfigFromEnv()
	require.NoError(t, err)
	require.Equal(t, map[string]fxmodule.Cache{
		"user_sessions": {Unsealed: true, Namespace: "u"},
		"a":             {Namespace: "a", Store: "memory://", KEK: "file:///kek", DataKeys: fxmodule.DataKeys{TTL: 60e9}},
	}, config.Caches)
}

// A secret may live in a variable of any name, if a setting says so.
func TestConfigFromEnvAcceptsReferencedVariables(t *testing.T) {
	referred := []string{
		"SEALCACHE_STORE=redis://app@h/0?password_env=SEALCACHE_REDIS_PASSWORD&db=1", "SEALCACHE_REDIS_PASSWORD=x",
		"SEALCACHE_KEK=passphrase:env:SEALCACHE_PASSPHRASE", "SEALCACHE_PASSPHRASE=x",
		"SEALCACHE_KEYSET=env:SEALCACHE_KEYSET_JSON", "SEALCACHE_KEYSET_JSON=x",
	}
	setenv(t, referred...)
	_, err := fxmodule.ConfigFromEnv()
	require.NoError(t, err)
	setenv(t, append(referred, "SEALCACHE_KEYSET_JS=x")...)
	_, err = fxmodule.ConfigFromEnv()
	require.ErrorContains(t, err, "SEALCACHE_KEYSET_JS: unknown variable")
}

// Programs that share the environment learn which variables are not the application's.
func TestUnknownVariables(t *testing.T) {
	environ := []string{
		"PORT=80", "SEALCACHE_TTL=wrong", "SEALCACHE_Z=x", "SEALCACHE_A=env:SEALCACHE_Z", "SEALCACHE_EMPTY=",
		"SEALCACHE_JOBS_REDIS=redis+sentinel://h?password_env=SEALCACHE_B&sentinel_password_env=SEALCACHE_C", "SEALCACHE_B=x", "SEALCACHE_C=x",
		"SEALCACHE_JOBS_PRF_KEYSET=env:SEALCACHE_D", "SEALCACHE_D=x", "SEALCACHE_E=x", "SEALCACHE_F=x",
		"SEALCACHE_OTHER_KEKS=passphrase:env:SEALCACHE_G?salt=00,Passphrase:env:SEALCACHE_H", "SEALCACHE_G=x", "SEALCACHE_H=x",
		"SEALCACHE_CACHES_A_TENANT_KEKS=passphrase:env:SEALCACHE_OF_{tenant}_X", "SEALCACHE_OF_acme_X=x", "SEALCACHE_OF__X=x",
	}
	require.Equal(t, []string{"SEALCACHE_A", "SEALCACHE_E", "SEALCACHE_F", "SEALCACHE_OF__X", "SEALCACHE_Z"}, fxmodule.UnknownVariables(environ, fxmodule.Config{}))
	config := one(fxmodule.Cache{HiddenKeys: "env:SEALCACHE_E", Namespace: "env:SEALCACHE_A"})
	require.Equal(t, []string{"SEALCACHE_A", "SEALCACHE_OF__X", "SEALCACHE_Z"}, fxmodule.UnknownVariables(environ, config, "env:SEALCACHE_F", "x env:SEALCACHE_Z"))
}

func TestConfigFromEnvRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		variables []string
		want      string
	}{
		"nothing":       {nil, "no caches"},
		"empty":         {[]string{"SEALCACHE_STORE="}, "no caches"},
		"unknown":       {[]string{"SEALCACHE_STROE=memory://"}, "SEALCACHE_STROE: unknown variable (docs/fx.md lists the known ones)"},
		"of itself":     {[]string{"SEALCACHE_TYPO=env:SEALCACHE_TYPO"}, "SEALCACHE_TYPO: unknown variable"},
		"of a name":     {[]string{"SEALCACHE_NAMESPACE=env:SEALCACHE_TYPO", "SEALCACHE_TYPO=x"}, "SEALCACHE_TYPO: unknown variable"},
		"of a cache":    {[]string{"SEALCACHE_CACHES_A_STROE=x"}, "unknown variable"},
		"no name":       {[]string{"SEALCACHE_CACHES_STORE=x"}, "unknown variable"},
		"empty name":    {[]string{"SEALCACHE_CACHES__STORE=x"}, "unknown variable"},
		"of jobs":       {[]string{"SEALCACHE_JOBS_QUEUE=x"}, "SEALCACHE_JOBS_QUEUE: unknown variable"},
		"queues":        {[]string{"SEALCACHE_JOBS_QUEUES=critical"}, "SEALCACHE_JOBS_QUEUES: the value is not a list of queues"},
		"jobs' policy":  {[]string{"SEALCACHE_JOBS_PLAINTEXT=accept"}, `SEALCACHE_JOBS_PLAINTEXT: for jobs, the value must be "reject", "read" or "write"`},
		"cache's jobs":  {[]string{"SEALCACHE_CACHES_JOBS_PLAINTEXT=accept"}, `SEALCACHE_CACHES_JOBS_PLAINTEXT: the value must be "reject", "read", "write" or (for caches only) "seal-on-read"`},
		"weight":        {[]string{"SEALCACHE_JOBS_QUEUES=critical=much"}, "SEALCACHE_JOBS_QUEUES: the value is not a list of queues"},
		"queue twice":   {[]string{"SEALCACHE_JOBS_QUEUES=a=1,a=2"}, "SEALCACHE_JOBS_QUEUES: the list contains the same queue twice (give each queue once)"},
		"context twice": {[]string{"SEALCACHE_WRAP_CONTEXT=a=1,a=2"}, "SEALCACHE_WRAP_CONTEXT: the list contains two name=value pairs with the same name"},
		"twice":         {[]string{"SEALCACHE_TTL=1m", "SEALCACHE_CACHES_DEFAULT_TTL=2m"}, "SEALCACHE_TTL: this variable sets the same setting as SEALCACHE_CACHES_DEFAULT_TTL"},
		"two cases":     {[]string{"SEALCACHE_CACHES_A_TTL=1m", "SEALCACHE_CACHES_a_TTL=2m"}, "same setting as"},
		"duration":      {[]string{"SEALCACHE_TTL=30"}, "SEALCACHE_TTL: the value is not a duration"},
		"bool":          {[]string{"SEALCACHE_UNSEALED=yes"}, "SEALCACHE_UNSEALED: the value must be true or false"},
		"invalid":       {[]string{"SEALCACHE_STORE=memory://"}, "no encryption keys"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, c.variables...)
			_, err := fxmodule.ConfigFromEnv()
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestEnvErrorsQuoteNothing(t *testing.T) {
	for _, v := range append(slices.Clone(everyVariable), "SEALCACHE_X=x") {
		name, _, _ := strings.Cut(v, "=")
		setenv(t, name+"=redis://:"+secret+"@h")
		_, err := fxmodule.ConfigFromEnv()
		if !strings.HasSuffix(name, "_KEK") { // alone, it could be meant
			require.Error(t, err, name)
		}
		require.NotContains(t, fmt.Sprint(err), secret, name)
	}
}
