package main

import (
	"maps"
	"slices"
	"strings"
)

const envPrefix = "SEALCACHE_"

// checkEnvironment refuses unknown SEALCACHE_ variables: a misspelt one would leave a default in force. The settings of
// the application are known, and so is a variable that a setting or a flag refers to, as in passphrase:env:NAME.
func checkEnvironment(environ []string, f *flags) error {
	var values []string
	for _, variable := range environ {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, envPrefix) {
			values = append(values, value)
		}
	}
	for name := range f.fromEnv {
		values = append(values, f.Lookup(name).Value.String())
	}
	for _, name := range []string{"old-kek", "old-keyset", "to-kek"} {
		if g := f.Lookup(name); g != nil {
			values = append(values, g.Value.String())
		}
	}
	var unknown []string
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		if rest, ok := strings.CutPrefix(name, envPrefix); ok && value != "" && !knownSetting(rest) && !refersTo(values, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return wrong("unknown variable in the environment: %s (unset it, or correct its name)", strings.Join(unknown, ", "))
	}
	return nil
}

// refersTo reports whether a value names a variable as env:NAME or password_env=NAME.
func refersTo(values []string, name string) bool {
	for _, value := range values {
		for _, reference := range []string{"env:" + name, "password_env=" + name} {
			if _, after, ok := strings.Cut(value, reference); ok && (after == "" || strings.ContainsAny(after[:1], "&?;#,")) {
				return true
			}
		}
	}
	return false
}

// knownSetting reports whether SEALCACHE_<rest> is a setting of fxmodule or of this command.
func knownSetting(rest string) bool {
	if named, ok := strings.CutPrefix(rest, "CACHES_"); ok {
		return slices.ContainsFunc(cacheSettings(), func(s string) bool {
			name, ok := strings.CutSuffix(named, "_"+s)
			return ok && name != ""
		})
	}
	return slices.Contains(cacheSettings(), rest) || slices.Contains(otherSettings(), rest) || slices.Contains(own(), rest)
}

func cacheSettings() []string {
	return []string{
		"STORE", "NAMESPACE", "UNSEALED", "TTL", "KEK", "OTHER_KEKS", "KEYSET", "KEYSET_NAME", "KEYSET_RELOAD", "CRYPTOPERIOD", "TENANT_KEKS", "TENANT", "WRAP_CONTEXT", "WRAP_CONTEXT_STATE",
		"DATA_KEYS_MAX_MESSAGES", "DATA_KEYS_MAX_BYTES", "DATA_KEYS_MAX_AGE", "DATA_KEYS_CACHE_SIZE", "DATA_KEYS_TTL",
		"PLAINTEXT", "PLAINTEXT_UNTIL", "MISS_ON_OPEN_FAILURE", "MAX_VALUE_BYTES",
		"HIDDEN_KEYS", "ONE_WAY_KEYS", "PRF_KEYSET_NAME", "SEALED_EXPIRY", "COMPRESS_MIN_BYTES", "COMPRESS_FAST", "PADDING",
	}
}

func otherSettings() []string {
	return []string{
		"JOBS_KEYS_OF", "JOBS_NAMESPACE", "JOBS_PRF_KEYSET", "JOBS_PRF_KEYSET_NAME", "JOBS_COMPRESS_MIN_BYTES", "JOBS_MAX_PAYLOAD_BYTES", "JOBS_REDIS",
		"JOBS_QUEUES", "JOBS_STRICT_PRIORITY", "JOBS_CONCURRENCY", "JOBS_SHUTDOWN_TIMEOUT", "JOBS_HIDDEN_TYPES",
		"JOBS_PLAINTEXT", "JOBS_PLAINTEXT_UNTIL", "JOBS_SCHEDULES_CATCH_UP", "KEY_TIMEOUT",
	}
}

// own are the variables of this command alone.
func own() []string { return []string{"RECORD"} }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
