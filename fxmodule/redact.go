package fxmodule

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// String returns the names and settings of the caches. It shows only the scheme of stores and KEKs, and whether a keyset is
// a file or a variable. The rest may hold passwords, tokens and keys.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("fxmodule.Config{")
	for _, name := range c.names() {
		fmt.Fprintf(&b, "%s: %s, ", showName(name), c.Caches[name].settings())
	}
	b.WriteString("jobs: " + c.Jobs.settings())
	if c.KeyTimeout != 0 {
		fmt.Fprintf(&b, ", key_timeout: %v", c.KeyTimeout)
	}
	b.WriteString("}")
	return b.String()
}

// String returns the settings as Config.String does.
func (c Cache) String() string { return "fxmodule.Cache" + c.settings() }

// String returns the settings as Config.String does.
func (j Jobs) String() string { return "fxmodule.Jobs" + j.settings() }

func (c Cache) settings() string {
	var s []string
	set := func(name, value string, is bool) {
		if is {
			s = append(s, name+": "+value)
		}
	}
	set("store", "the application's", c.Store == "")
	set("store", showScheme(c.Store), c.Store != "")
	set("namespace", showName(c.Namespace), c.Namespace != "")
	set("unsealed", "true", c.Unsealed)
	set("ttl", c.TTL.String(), c.TTL != 0)
	set("kek", showScheme(c.KEK), c.KEK != "")
	set("other_keks", showSchemes(c.OtherKEKs), len(c.OtherKEKs) > 0)
	set("keyset", showSource(c.Keyset), c.Keyset != "")
	set("keyset_name", showName(c.KeysetName), c.KeysetName != "")
	set("keyset_reload", c.KeysetReload.String(), c.KeysetReload != 0)
	set("cryptoperiod", c.Cryptoperiod.String(), c.Cryptoperiod != 0)
	set("tenant_keks", showScheme(c.TenantKEKs), c.TenantKEKs != "")
	set("tenant", showName(c.Tenant), c.Tenant != "")
	set("wrap_context", strconv.Itoa(len(c.WrapContext)), len(c.WrapContext) > 0)
	set("wrap_context_state", showName(c.WrapContextState), c.WrapContextState != "")
	d := c.DataKeys
	set("data_keys.max_messages", strconv.FormatUint(d.MaxMessages, 10), d.MaxMessages != 0)
	set("data_keys.max_bytes", strconv.FormatUint(d.MaxBytes, 10), d.MaxBytes != 0)
	set("data_keys.max_age", d.MaxAge.String(), d.MaxAge != 0)
	set("data_keys.cache_size", strconv.Itoa(d.CacheSize), d.CacheSize != 0)
	set("data_keys.ttl", d.TTL.String(), d.TTL != 0)
	set("plaintext", c.Plaintext.String(), c.Plaintext != middleware.RejectPlaintext)
	set("plaintext_until", c.PlaintextUntil.Format(time.RFC3339), !c.PlaintextUntil.IsZero())
	set("miss_on_open_failure", "true", c.MissOnOpenFailure)
	set("max_value_bytes", strconv.Itoa(c.MaxValueBytes), c.MaxValueBytes != 0)
	set("hidden_keys", showSource(c.HiddenKeys), c.HiddenKeys != "")
	set("one_way_keys", showSource(c.OneWayKeys), c.OneWayKeys != "")
	set("prf_keyset_name", showName(c.PRFKeysetName), c.PRFKeysetName != "")
	set("sealed_expiry", "true", c.SealedExpiry)
	set("compress_min_bytes", strconv.Itoa(c.CompressMinBytes), c.CompressMinBytes != 0)
	set("compress_fast", "true", c.CompressFast)
	set("padding", "true", c.Padding)
	set("codecs", strconv.Itoa(len(c.Codecs)), len(c.Codecs) > 0)
	return "{" + strings.Join(s, ", ") + "}"
}

func (j Jobs) settings() string {
	var s []string
	set := func(name, value string, is bool) {
		if is {
			s = append(s, name+": "+value)
		}
	}
	set("keys_of", showName(j.KeysOf), j.KeysOf != "")
	set("namespace", showName(j.Namespace), j.Namespace != "")
	set("prf_keyset", showSource(j.PRFKeyset), j.PRFKeyset != "")
	set("prf_keyset_name", showName(j.PRFKeysetName), j.PRFKeysetName != "")
	set("compress_min_bytes", strconv.Itoa(j.CompressMinBytes), j.CompressMinBytes != 0)
	set("max_payload_bytes", strconv.Itoa(j.MaxPayloadBytes), j.MaxPayloadBytes != 0)
	set("redis", showScheme(j.Redis), j.Redis != "")
	set("queues", j.showQueues(), len(j.Queues) > 0)
	set("strict_priority", "true", j.StrictPriority)
	set("concurrency", strconv.Itoa(j.Concurrency), j.Concurrency != 0)
	set("shutdown_timeout", j.ShutdownTimeout.String(), j.ShutdownTimeout != 0)
	set("hidden_types", "true", j.HiddenTypes)
	set("plaintext", j.Plaintext.String(), j.Plaintext != jobs.RejectPlaintext)
	set("plaintext_until", j.PlaintextUntil.Format(time.RFC3339), !j.PlaintextUntil.IsZero())
	set("schedules.catch_up", j.Schedules.CatchUp.String(), j.Schedules.CatchUp != 0)
	return "{" + strings.Join(s, ", ") + "}"
}

func (j Jobs) showQueues() string {
	var s []string
	for _, name := range slices.Sorted(maps.Keys(j.Queues)) {
		s = append(s, showName(name)+": "+strconv.Itoa(j.Queues[name]))
	}
	return "{" + strings.Join(s, ", ") + "}"
}

// scheme returns the scheme of a URL or URI, or nothing. A scheme is short and has only certain characters, so a
// password or key that was put there by mistake is not shown.
func scheme(uri string) string {
	s, _, ok := strings.Cut(uri, ":")
	if !ok || s == "" || len(s) > 20 {
		return ""
	}
	s = strings.ToLower(s)
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', i > 0 && (b == '+' || b == '-' || b == '.'):
		default:
			return ""
		}
	}
	return s
}

// showScheme shows the scheme of a URL or of a passphrase URI. In localhost:6379 or user:password the part before the colon
// is not a scheme.
func showScheme(uri string) string {
	if s := scheme(uri); s != "" && (s == "passphrase" || strings.HasPrefix(uri[len(s):], "://")) {
		return s + ":..."
	}
	return "..."
}

// showName quotes a name only if it is valid, because other text may be a secret.
func showName(s string) string {
	if checkName(s) != nil {
		return "(not a name)"
	}
	return strconv.Quote(s)
}

func showSource(s string) string {
	if strings.HasPrefix(s, "env:") {
		return "env:..."
	}
	return "file"
}

// Format prints String for every verb, including %+v, %#v and %d.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Format prints String for every verb.
func (c Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Format prints String for every verb.
func (j Jobs) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, j.String()) }

// GoString returns String.
func (c Config) GoString() string { return c.String() }

// GoString returns String.
func (c Cache) GoString() string { return c.String() }

// GoString returns String.
func (j Jobs) GoString() string { return j.String() }

// LogValue returns String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// LogValue returns String.
func (c Cache) LogValue() slog.Value { return slog.StringValue(c.String()) }

// LogValue returns String.
func (j Jobs) LogValue() slog.Value { return slog.StringValue(j.String()) }

// MarshalText returns String, so that JSON and YAML encoders, and a logger given a value that contains a Config, show no
// secret. The text cannot be read back.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText returns String.
func (c Cache) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText returns String.
func (j Jobs) MarshalText() ([]byte, error) { return []byte(j.String()), nil }

// showSchemes returns the schemes of several URIs.
func showSchemes(uris []string) string {
	var s []string
	for _, uri := range uris {
		s = append(s, showScheme(uri))
	}
	return "[" + strings.Join(s, ", ") + "]"
}
