package fxmodule

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const envPrefix = "SEALCACHE_"

// ConfigFromEnv reads the Config from the environment's SEALCACHE_ variables; the package comment has the table. An
// empty variable counts as unset. An unknown one is an error, as is a setting given twice, so that a typing mistake
// cannot leave a default in force; only a variable that a setting refers to (as env:NAME or password_env=NAME) may have
// any name. The result is checked as Validate does.
func ConfigFromEnv() (Config, error) { return configFromEnviron(os.Environ()) }

func configFromEnviron(environ []string) (Config, error) {
	environ = slices.Sorted(slices.Values(environ))
	r := envReader{caches: make(map[string]*Cache), by: make(map[string]string), environ: environ}
	var errs []error
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		if err := r.read(name, rest, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("fxmodule: environment: %w", err)
	}
	c := r.config
	c.Caches = make(map[string]Cache, len(r.caches))
	for name, cache := range r.caches {
		c.Caches[name] = *cache
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

type envReader struct {
	config  Config
	caches  map[string]*Cache
	by      map[string]string // the variable that gave a setting, to see one given twice
	environ []string
}

// read takes one variable: name without SEALCACHE_ is rest.
func (r *envReader) read(name, rest, value string) error {
	if s, ok := byEnvName(configSettings(), rest); ok {
		return assign(s, &r.config, value)
	}
	if job, ok := strings.CutPrefix(rest, "JOBS_"); ok {
		if s, ok := byEnvName(jobsSettings(), job); ok {
			return assign(s, &r.config.Jobs, value)
		}
		return r.unknown(name, "of jobs there are "+namesOf(jobsSettings(), func(s setting[Jobs]) string { return envPrefix + "JOBS_" + s.envName() }))
	}
	cache, s, ok := cacheSetting(rest)
	if !ok {
		return r.unknown(name, fmt.Sprintf("known are %[1]s<SETTING> for the default cache and %[1]sCACHES_<NAME>_<SETTING> for others, with the settings %s; %s; and %[1]sJOBS_...",
			envPrefix,
			namesOf(cacheSettings(), setting[Cache].envName),
			namesOf(configSettings(), func(s setting[Config]) string { return envPrefix + s.envName() })))
	}
	if value == "" {
		return nil
	}
	id := cache + " " + s.name
	if other, twice := r.by[id]; twice {
		return fmt.Errorf("%s gives the same setting", other)
	}
	r.by[id] = name
	if r.caches[cache] == nil {
		r.caches[cache] = new(Cache)
	}
	return s.set(r.caches[cache], value)
}

// cacheSetting splits <SETTING>, or CACHES_<NAME>_<SETTING> at the longest setting that fits.
func cacheSetting(rest string) (cache string, s setting[Cache], ok bool) {
	named, isNamed := strings.CutPrefix(rest, "CACHES_")
	if !isNamed {
		s, ok = byEnvName(cacheSettings(), rest)
		return Default, s, ok
	}
	for _, candidate := range cacheSettings() {
		name, fits := strings.CutSuffix(named, "_"+candidate.envName())
		if fits && name != "" && (!ok || len(candidate.name) > len(s.name)) {
			cache, s, ok = strings.ToLower(name), candidate, true
		}
	}
	return cache, s, ok
}

func byEnvName[T any](settings []setting[T], name string) (setting[T], bool) {
	i := slices.IndexFunc(settings, func(s setting[T]) bool { return s.envName() == name })
	if i < 0 {
		return setting[T]{}, false
	}
	return settings[i], true
}

func assign[T any](s setting[T], target *T, value string) error {
	if value == "" {
		return nil
	}
	return s.set(target, value)
}

// unknown refuses a variable, unless a setting refers to it.
func (r *envReader) unknown(name, known string) error {
	for _, variable := range r.environ {
		if !strings.HasPrefix(variable, envPrefix) {
			continue
		}
		_, value, _ := strings.Cut(variable, "=")
		for _, reference := range []string{"env:" + name, "password_env=" + name} {
			if _, after, ok := strings.Cut(value, reference); ok && (after == "" || strings.ContainsAny(after[:1], "&?;#")) {
				return nil
			}
		}
	}
	return errors.New("unknown variable: " + known)
}
