package fxmodule

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

const maxNameBytes = 64

// Validate reports everything that is wrong with the Config, without opening anything. Above all it refuses one that
// could leave a cache unsealed without saying Clear, and one that says two things. Its errors name caches and
// settings, and repeat no values.
func (c Config) Validate() error {
	var errs []error
	if len(c.Caches) == 0 {
		errs = append(errs, errors.New("there is no cache: give one, named \"default\""))
	}
	if c.KeyTimeout < 0 {
		errs = append(errs, errors.New("key_timeout is negative"))
	}
	for _, name := range c.names() {
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("cache name: %w", err))
			continue
		}
		for _, err := range c.Caches[name].problems() {
			errs = append(errs, fmt.Errorf("cache %q: %w", name, err))
		}
	}
	errs = append(errs, c.Jobs.problems(c.Caches)...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("fxmodule: config: %w", err)
	}
	return nil
}

// names returns the caches' names in order.
func (c Config) names() []string { return slices.Sorted(maps.Keys(c.Caches)) }

// checkName holds cache names and namespaces to what middleware.WithNamespace allows.
func checkName(s string) error {
	if s == "" || len(s) > maxNameBytes {
		return fmt.Errorf("of %d bytes: it takes 1 to %d", len(s), maxNameBytes)
	}
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '_', b == '.', b == '-':
		default:
			return fmt.Errorf("byte %q at %d: only letters, digits, '_', '.' and '-' are allowed", b, i)
		}
	}
	return nil
}

func (c Cache) problems() []error {
	var errs []error
	if c.Namespace != "" {
		if err := checkName(c.Namespace); err != nil {
			errs = append(errs, fmt.Errorf("namespace: %w", err))
		}
	}
	if c.TTL < 0 {
		errs = append(errs, errors.New("ttl is negative"))
	}
	if c.Clear {
		return append(errs, c.clearProblems()...)
	}
	return append(errs, c.sealedProblems()...)
}

// clearProblems names what a cache in clear has no use for: whoever set it expects something that will not happen.
func (c Cache) clearProblems() []error {
	var set []string
	for name, is := range map[string]bool{
		"kek":                  c.KEK != "",
		"keyset":               c.Keyset != "",
		"keyset_reload":        c.KeysetReload != 0,
		"data_keys":            c.DataKeys != DataKeys{},
		"plaintext":            c.Plaintext != middleware.RejectPlaintext,
		"plaintext_until":      !c.PlaintextUntil.IsZero(),
		"miss_on_open_failure": c.MissOnOpenFailure,
		"max_value_bytes":      c.MaxValueBytes != 0,
		"codecs":               len(c.Codecs) > 0,
	} {
		if is {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return nil
	}
	slices.Sort(set)
	return []error{fmt.Errorf("clear says that it is not sealed, but %s is for a sealed one: drop the one or the other", strings.Join(set, ", "))}
}

func (c Cache) sealedProblems() []error {
	var errs []error
	switch {
	case c.KEK == "" && c.Keyset != "":
		errs = append(errs, errors.New("keyset without kek: a keyset is sealed under a key-encryption key; if this one is in clear, mounted as a secret, give it as kek: file:///path instead"))
	case c.KEK == "":
		errs = append(errs, errors.New("it has no keys: give it a kek (such as file:///run/secrets/kek.json), or say clear if its values may be stored in clear"))
	}
	if c.Keyset != "" {
		if _, err := keysetSource(c.Keyset); err != nil {
			errs = append(errs, fmt.Errorf("keyset: %w", err))
		}
	} else if c.KeysetReload != 0 {
		errs = append(errs, errors.New("keyset_reload without keyset"))
	}
	for name, negative := range map[string]bool{
		"keyset_reload":     c.KeysetReload < 0,
		"max_value_bytes":   c.MaxValueBytes < 0,
		"data_keys.max_age": c.DataKeys.MaxAge < 0,
		"data_keys.cache":   c.DataKeys.Cache < 0,
		"data_keys.ttl":     c.DataKeys.TTL < 0,
	} {
		if negative {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	switch {
	case c.Plaintext < middleware.RejectPlaintext || c.Plaintext > middleware.WritePlaintext:
		errs = append(errs, errors.New("plaintext: no such policy"))
	case c.Plaintext == middleware.RejectPlaintext && !c.PlaintextUntil.IsZero():
		errs = append(errs, errors.New("plaintext_until without plaintext: there is no tolerance that could end"))
	case c.Plaintext == middleware.WritePlaintext && c.PlaintextUntil.IsZero():
		errs = append(errs, errors.New("plaintext: write, without plaintext_until, leaves it in clear for ever: give the end, or say clear"))
	}
	return errs
}

func (j Jobs) problems(caches map[string]Cache) []error {
	var errs []error
	if j.Namespace != "" {
		if err := checkName(j.Namespace); err != nil {
			errs = append(errs, fmt.Errorf("namespace: %w", err))
		}
	}
	if j.PRFKeyset != "" {
		if _, err := keysetSource(j.PRFKeyset); err != nil {
			errs = append(errs, fmt.Errorf("prf_keyset: %w", err))
		}
	}
	if j.CompressMinBytes < 0 {
		errs = append(errs, errors.New("compress_min_bytes is negative"))
	}
	if j.MaxPayloadBytes < 0 {
		errs = append(errs, errors.New("max_payload_bytes is negative"))
	}
	errs = append(errs, j.queueProblems(caches)...)
	name := j.cache()
	switch cache, ok := caches[name]; {
	case reflect.ValueOf(j).IsZero(): // then there need not be an encryptor
	case !ok:
		errs = append(errs, fmt.Errorf("they use the keys of cache %s, which does not exist; an application that has jobs only gives one a kek and the store memory://", showName(name)))
	case cache.Clear:
		errs = append(errs, fmt.Errorf("they use the keys of cache %s, which is in clear and has none", showName(name)))
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("jobs: %w", err)
	}
	return errs
}

// maxWeight bounds the weight of a queue: asynq makes a list of as many names for each look into the queues.
const maxWeight = 1000

// minPoll is the least that asynqjobs.WithPollInterval takes.
const minPoll = 100 * time.Millisecond

// asynqPrefix begins the names of asynq's keys, as a namespace of this name would those of a cache.
const asynqPrefix = "asynq"

func (j Jobs) queueProblems(caches map[string]Cache) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(j.Queues)) {
		if name == "" || strings.TrimSpace(name) != name || strings.ContainsAny(name, "{}\r\n") {
			errs = append(errs, errors.New("queues: a name is empty, begins or ends with a blank, or has a brace or a line break"))
		}
		if w := j.Queues[name]; w < 1 || w > maxWeight {
			errs = append(errs, fmt.Errorf("queues: the weight of %s is %d: it takes 1 to %d; a queue that this process should not work on is left out", showName(name), w, maxWeight))
		}
	}
	for _, s := range []struct {
		name     string
		negative bool
	}{
		{"concurrency", j.Concurrency < 0},
		{"shutdown_timeout", j.ShutdownTimeout < 0},
		{"schedules.poll", j.Schedules.Poll < 0},
		{"schedules.catch_up", j.Schedules.CatchUp < 0},
	} {
		if s.negative {
			errs = append(errs, fmt.Errorf("%s is negative", s.name))
		}
	}
	if j.Redis != "" && !strings.Contains(j.Redis, "://") {
		errs = append(errs, errors.New("redis is not a URL, such as redis://localhost:6379/0"))
	}
	if poll := j.Schedules.Poll; poll > 0 && poll < minPoll {
		errs = append(errs, fmt.Errorf("schedules.poll is less than %v", minPoll))
	}
	if j.Schedules.CatchUp > asynqjobs.DefaultCatchUp {
		errs = append(errs, fmt.Errorf("schedules.catch_up is more than %v", asynqjobs.DefaultCatchUp))
	}
	if j.PRFKeyset == "" && j.HiddenTypes {
		errs = append(errs, errors.New("hidden_types without prf_keyset: the names of types are hidden by a PRF; make a keyset (sealcache keys create -type prf) and name it there"))
	}
	if j.PRFKeyset == "" && j.Schedules != (Schedules{}) {
		errs = append(errs, errors.New("schedules without prf_keyset: their names are hidden by a PRF; make a keyset (sealcache keys create -type prf) and name it there"))
	}
	for _, name := range j.neighbours(caches) {
		if caches[name].Namespace == asynqPrefix {
			errs = append(errs, fmt.Errorf("cache %q is in their Redis under the namespace %q, which begins asynq's own keys too, so that its Clear would take some of them: give it another", name, asynqPrefix))
		}
	}
	return errs
}

func (j Jobs) cache() string {
	if j.Cache == "" {
		return Default
	}
	return j.Cache
}
