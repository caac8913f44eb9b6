package fxmodule

import (
	"errors"
	"fmt"
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
	// put, for a setting of names with values, sets one of them, where YAML has a mapping.
	put func(target *T, name, text string) error
}

// envName is the setting's name in the environment.
func (s setting[T]) envName() string {
	return strings.ToUpper(strings.ReplaceAll(s.name, ".", "_"))
}

// The settings are functions and not variables, so that nothing in the package can change.

func cacheSettings() []setting[Cache] {
	return []setting[Cache]{
		{name: "store", set: func(c *Cache, s string) error { return text(&c.Store, s) }},
		{name: "namespace", set: func(c *Cache, s string) error { return text(&c.Namespace, s) }},
		{name: "unsealed", set: func(c *Cache, s string) error { return boolean(&c.Unsealed, s) }},
		{name: "ttl", set: func(c *Cache, s string) error { return duration(&c.TTL, s) }},
		{name: "kek", set: func(c *Cache, s string) error { return text(&c.KEK, s) }},
		{name: "keyset", set: func(c *Cache, s string) error { return text(&c.Keyset, s) }},
		{name: "keyset_reload", set: func(c *Cache, s string) error { return duration(&c.KeysetReload, s) }},
		{name: "data_keys.max_messages", set: func(c *Cache, s string) error { return number(&c.DataKeys.MaxMessages, s) }},
		{name: "data_keys.max_bytes", set: func(c *Cache, s string) error { return number(&c.DataKeys.MaxBytes, s) }},
		{name: "data_keys.max_age", set: func(c *Cache, s string) error { return duration(&c.DataKeys.MaxAge, s) }},
		{name: "data_keys.cache_size", set: func(c *Cache, s string) error { return size(&c.DataKeys.CacheSize, s) }},
		{name: "data_keys.ttl", set: func(c *Cache, s string) error { return duration(&c.DataKeys.TTL, s) }},
		{name: "plaintext", set: func(c *Cache, s string) error { return policy(&c.Plaintext, s) }},
		{name: "plaintext_until", set: func(c *Cache, s string) error { return instant(&c.PlaintextUntil, s) }},
		{name: "miss_on_open_failure", set: func(c *Cache, s string) error { return boolean(&c.MissOnOpenFailure, s) }},
		{name: "max_value_bytes", set: func(c *Cache, s string) error { return size(&c.MaxValueBytes, s) }},
	}
}

func jobsSettings() []setting[Jobs] {
	return []setting[Jobs]{
		{name: "keys_of", set: func(j *Jobs, s string) error { return text(&j.KeysOf, s) }},
		{name: "namespace", set: func(j *Jobs, s string) error { return text(&j.Namespace, s) }},
		{name: "prf_keyset", set: func(j *Jobs, s string) error { return text(&j.PRFKeyset, s) }},
		{name: "compress_min_bytes", set: func(j *Jobs, s string) error { return size(&j.CompressMinBytes, s) }},
		{name: "max_payload_bytes", set: func(j *Jobs, s string) error { return size(&j.MaxPayloadBytes, s) }},
		{name: "redis", set: func(j *Jobs, s string) error { return text(&j.Redis, s) }},
		{name: "queues", set: queues, put: weigh},
		{name: "strict_priority", set: func(j *Jobs, s string) error { return boolean(&j.StrictPriority, s) }},
		{name: "concurrency", set: func(j *Jobs, s string) error { return size(&j.Concurrency, s) }},
		{name: "shutdown_timeout", set: func(j *Jobs, s string) error { return duration(&j.ShutdownTimeout, s) }},
		{name: "hidden_types", set: func(j *Jobs, s string) error { return boolean(&j.HiddenTypes, s) }},
		{name: "plaintext_until", set: func(j *Jobs, s string) error { return instant(&j.PlaintextUntil, s) }},
		{name: "schedules.poll", set: func(j *Jobs, s string) error { return duration(&j.Schedules.Poll, s) }},
		{name: "schedules.catch_up", set: func(j *Jobs, s string) error { return duration(&j.Schedules.CatchUp, s) }},
	}
}

func configSettings() []setting[Config] {
	return []setting[Config]{
		{name: "key_timeout", set: func(c *Config, s string) error { return duration(&c.KeyTimeout, s) }},
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

// queues reads name=weight,name=weight.
func queues(j *Jobs, s string) error {
	for pair := range strings.SplitSeq(s, ",") {
		name, weight, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("not queues with their weights, such as critical=6,default=3")
		}
		if err := weigh(j, strings.TrimSpace(name), strings.TrimSpace(weight)); err != nil {
			return err
		}
	}
	return nil
}

func weigh(j *Jobs, name, weight string) error {
	if _, twice := j.Queues[name]; twice {
		return errors.New("a queue is given twice")
	}
	var n int
	if err := size(&n, weight); err != nil {
		return fmt.Errorf("the weight of a queue: %w", err)
	}
	if j.Queues == nil {
		j.Queues = make(map[string]int)
	}
	j.Queues[name] = n
	return nil
}

// namesOf lists settings for an error about an unknown one.
func namesOf[T any](settings []setting[T], name func(setting[T]) string) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = name(s)
	}
	return strings.Join(names, ", ")
}
