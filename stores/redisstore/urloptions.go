package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// option is one option of a URL. The text of its error follows the option's name and does not repeat the value.
type option struct {
	name string
	set  func(t *target, value string) error
}

// options are the options that Open documents, sorted by name. addr is read with the hosts.
func options() []option {
	return []option{
		{"addr", func(*target, string) error { return nil }},
		{"ca_file", text(func(t *target) *string { return &t.caFile })},
		{"cert_file", text(func(t *target) *string { return &t.certFile })},
		{"client_name", text(func(t *target) *string { return &t.clientName })},
		{"combine", func(t *target, v string) error {
			if v != "on" && v != "off" {
				return errors.New("the value in the URL must be \"on\" or \"off\"")
			}
			t.noCombining = v == "off"
			return nil
		}},
		{"conn_max_idle_time", duration(func(t *target) *time.Duration { return &t.idleTime })},
		{"conn_max_lifetime", duration(func(t *target) *time.Duration { return &t.lifetime })},
		{"db", func(t *target, v string) error {
			if t.inPath {
				return errors.New("the URL selects a database twice, in its path and in the option \"db\" (remove one of the two)")
			}
			return database(v, &t.db)
		}},
		{"dial_timeout", duration(func(t *target) *time.Duration { return &t.dial })},
		{"expiration", duration(func(t *target) *time.Duration { return &t.expiration })},
		{"key_file", text(func(t *target) *string { return &t.keyFile })},
		{"master", text(func(t *target) *string { return &t.master })},
		{"max_active_conns", number(1, func(t *target) *int { return &t.maxActive })},
		{"max_idle_conns", number(1, func(t *target) *int { return &t.maxIdle })},
		{"max_redirects", number(1, func(t *target) *int { return &t.redirect })},
		{"max_retries", func(t *target, v string) error {
			t.retries = new(int)
			return number(0, func(t *target) *int { return t.retries })(t, v)
		}},
		{"max_retry_backoff", duration(func(t *target) *time.Duration { return &t.maxBackoff })},
		{"min_idle_conns", number(0, func(t *target) *int { return &t.minIdle })},
		{"min_retry_backoff", duration(func(t *target) *time.Duration { return &t.minBackoff })},
		{"near_cache", func(t *target, v string) (err error) {
			t.nearBytes, err = byteSize(v)
			return err
		}},
		{"near_cache_max_staleness", duration(func(t *target) *time.Duration { return &t.nearStaleness })},
		{"password_env", text(func(t *target) *string { return &t.login.env })},
		{"password_file", text(func(t *target) *string { return &t.login.file })},
		{"pool_size", number(1, func(t *target) *int { return &t.poolSize })},
		{"pool_timeout", duration(func(t *target) *time.Duration { return &t.poolTimeout })},
		{"protocol", func(t *target, v string) error {
			if v != "2" && v != "3" {
				return errors.New("the value in the URL must be \"2\" or \"3\"")
			}
			t.protocol = int(v[0] - '0')
			return nil
		}},
		{"read_timeout", duration(func(t *target) *time.Duration { return &t.read })},
		{"sentinel_password", text(func(t *target) *string { return &t.watch.password })},
		{"sentinel_password_env", text(func(t *target) *string { return &t.watch.env })},
		{"sentinel_password_file", text(func(t *target) *string { return &t.watch.file })},
		{"sentinel_user", text(func(t *target) *string { return &t.watch.user })},
		{"server_name", text(func(t *target) *string { return &t.serverName })},
		{"tags_ttl", duration(func(t *target) *time.Duration { return &t.tagsTTL })},
		{"write_timeout", duration(func(t *target) *time.Duration { return &t.write })},
	}
}

func (t *target) parseOptions(values url.Values) error {
	known := options()
	for _, name := range slices.Sorted(maps.Keys(values)) { // the same error each time
		given := values[name]
		i := slices.IndexFunc(known, func(o option) bool { return o.name == name })
		switch {
		case i < 0:
			return unknownOption(name)
		case name == "addr":
		case len(given) != 1:
			return fmt.Errorf("the URL has the option %q more than once (give the option once)", name)
		case given[0] == "":
			return fmt.Errorf("the option %q in the URL has no value (add a value or remove the option)", name)
		default:
			if err := known[i].set(t, given[0]); err != nil {
				return fmt.Errorf("the option %q: %w", name, err)
			}
		}
	}
	return nil
}

// unknownOption repeats a name only if it looks like one. Otherwise it may be a part of a password that was not encoded.
func unknownOption(name string) error {
	like := func(r rune) bool { return r >= 'a' && r <= 'z' || r == '_' }
	if name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return !like(r) }) {
		name = "(name not shown)"
	} else {
		name = strconv.Quote(name)
	}
	return fmt.Errorf("unknown option %s in the URL (see docs/stores.md)", name)
}

func text(field func(*target) *string) func(*target, string) error {
	return func(t *target, v string) error {
		*field(t) = v
		return nil
	}
}

func duration(field func(*target) *time.Duration) func(*target, string) error {
	return func(t *target, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return errors.New("the value in the URL is not a positive duration such as 500ms, 3s or 10m")
		}
		*field(t) = d
		return nil
	}
}

func number(least int, field func(*target) *int) func(*target, string) error {
	return func(t *target, v string) error {
		n, err := strconv.ParseUint(v, 10, 20) // a million is enough for every option, and fits go-redis's 32 bits
		if err != nil || int(n) < least {
			return fmt.Errorf("the value in the URL is not a number from %d to 1048575", least)
		}
		*field(t) = int(n)
		return nil
	}
}

// byteSize parses the size of a near cache, such as 64MiB.
func byteSize(v string) (int64, error) {
	for unit, bits := range map[string]int{"MiB": 20, "GiB": 30} {
		digits, ok := strings.CutSuffix(v, unit)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 20); err == nil && n > 0 {
			return int64(n) << bits, nil
		}
	}
	return 0, errors.New("the value in the URL is not a size such as 64MiB or 1GiB")
}
