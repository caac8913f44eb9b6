package fxmodule

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// A setting is one setting as YAML and the environment give it: as text. Errors of set do not repeat the text, which
// may be a password in the wrong place.
type setting[T any] struct {
	name string // in YAML; a dot goes one level down
	set  func(target *T, text string) error
}

// envName is the setting's name in the environment.
func (s setting[T]) envName() string {
	return strings.ToUpper(strings.ReplaceAll(s.name, ".", "_"))
}

// The settings are functions and not variables, so that nothing in the package can change.

func cacheSettings() []setting[Cache] {
	return []setting[Cache]{
		{"store", func(c *Cache, s string) error { return text(&c.Store, s) }},
		{"namespace", func(c *Cache, s string) error { return text(&c.Namespace, s) }},
		{"clear", func(c *Cache, s string) error { return boolean(&c.Clear, s) }},
		{"ttl", func(c *Cache, s string) error { return duration(&c.TTL, s) }},
		{"kek", func(c *Cache, s string) error { return text(&c.KEK, s) }},
		{"keyset", func(c *Cache, s string) error { return text(&c.Keyset, s) }},
		{"keyset_reload", func(c *Cache, s string) error { return duration(&c.KeysetReload, s) }},
		{"data_keys.max_messages", func(c *Cache, s string) error { return number(&c.DataKeys.MaxMessages, s) }},
		{"data_keys.max_bytes", func(c *Cache, s string) error { return number(&c.DataKeys.MaxBytes, s) }},
		{"data_keys.max_age", func(c *Cache, s string) error { return duration(&c.DataKeys.MaxAge, s) }},
		{"data_keys.cache", func(c *Cache, s string) error { return size(&c.DataKeys.Cache, s) }},
		{"data_keys.ttl", func(c *Cache, s string) error { return duration(&c.DataKeys.TTL, s) }},
		{"plaintext", func(c *Cache, s string) error { return policy(&c.Plaintext, s) }},
		{"plaintext_until", func(c *Cache, s string) error { return instant(&c.PlaintextUntil, s) }},
		{"miss_on_open_failure", func(c *Cache, s string) error { return boolean(&c.MissOnOpenFailure, s) }},
		{"max_value_bytes", func(c *Cache, s string) error { return size(&c.MaxValueBytes, s) }},
	}
}

func jobsSettings() []setting[Jobs] {
	return []setting[Jobs]{
		{"cache", func(j *Jobs, s string) error { return text(&j.Cache, s) }},
		{"namespace", func(j *Jobs, s string) error { return text(&j.Namespace, s) }},
		{"prf_keyset", func(j *Jobs, s string) error { return text(&j.PRFKeyset, s) }},
		{"compress_min_bytes", func(j *Jobs, s string) error { return size(&j.CompressMinBytes, s) }},
		{"max_payload_bytes", func(j *Jobs, s string) error { return size(&j.MaxPayloadBytes, s) }},
	}
}

func configSettings() []setting[Config] {
	return []setting[Config]{
		{"key_timeout", func(c *Config, s string) error { return duration(&c.KeyTimeout, s) }},
	}
}

func text(to *string, s string) error {
	*to = s
	return nil
}

func boolean(to *bool, s string) error {
	switch s {
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

func duration(to *time.Duration, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("not a duration with a unit, such as 90s or 24h")
	}
	*to = d
	return nil
}

func number(to *uint64, s string) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return errors.New("not a whole number, in digits")
	}
	*to = n
	return nil
}

func size(to *int, s string) error {
	n, err := strconv.ParseInt(s, 10, strconv.IntSize)
	if err != nil {
		return errors.New("not a whole number, in digits")
	}
	*to = int(n)
	return nil
}

func instant(to *time.Time, s string) error {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errors.New("not a time such as 2030-01-31T00:00:00Z (RFC 3339)")
	}
	*to = t
	return nil
}

func policy(to *middleware.PlaintextPolicy, s string) error {
	for p := middleware.RejectPlaintext; p <= middleware.WritePlaintext; p++ {
		if p.String() == s {
			*to = p
			return nil
		}
	}
	return errors.New("none of reject, read, seal-on-read, write")
}

// namesOf lists settings for an error about an unknown one.
func namesOf[T any](settings []setting[T], name func(setting[T]) string) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = name(s)
	}
	return strings.Join(names, ", ")
}
