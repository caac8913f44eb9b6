package fxmodule

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/sealcache/sealcache/middleware"
)

const envPrefix = "SEALCACHE_"

// ConfigFromEnv reads the Config from the environment. SEALCACHE_<SETTING> is a setting of the cache "default" or of
// the Config. SEALCACHE_JOBS_<SETTING> is a setting of Jobs. SEALCACHE_CACHES_<NAME>_<SETTING> is a setting of another
// cache, whose name becomes lower case. If such a variable can be split in two ways, the longer setting is used.
// docs/fx.md has a table.
//
// An empty variable counts as unset. An unknown variable is an error, and so is a setting that is given twice. A variable
// to which a setting refers, as env:NAME or password_env=NAME, may have any name. The result is validated.
func ConfigFromEnv() (Config, error) { return ConfigFromEnviron(os.Environ()) }

// ConfigFromEnviron is ConfigFromEnv for variables in the form of os.Environ, for programs that examine the settings of another one.
func ConfigFromEnviron(environ []string) (Config, error) {
	c, others, errs := readEnviron(environ)
	for _, name := range unreferenced(others, c.references()) {
		errs = append(errs, fmt.Errorf("variable %s: unknown variable (docs/fx.md lists the known ones)", name))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("fxmodule: environment: %w", err)
	}
	if err := c.validate(true); err != nil {
		return Config{}, err
	}
	return c, nil
}

// UnknownVariables returns the sorted names of the SEALCACHE_ variables in environ that are not settings. It leaves out empty
// variables. It also leaves out those to which a setting in environ, a setting in c or one of values refers. It is for
// programs that share the environment of an application.
func UnknownVariables(environ []string, c Config, values ...string) []string {
	read, others, _ := readEnviron(environ)
	return unreferenced(others, slices.Concat(read.references(), c.references(), values))
}

// readEnviron reads the settings, and returns the names of the other SEALCACHE_ variables.
func readEnviron(environ []string) (c Config, others []string, errs []error) {
	variables := make(map[string]string)
	for _, v := range environ {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, envPrefix) && value != "" {
			variables[name] = value
		}
	}
	r := newEnvReader()
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		known, err := r.read(name, variables[name])
		if !known {
			others = append(others, name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", name, err))
		}
	}
	r.config.Caches = make(map[string]Cache, len(r.caches))
	for name, cache := range r.caches {
		r.config.Caches[name] = *cache
	}
	return r.config, others, errs
}

// references returns the values of the settings that may refer to variables.
func (c Config) references() []string {
	values := []string{c.Jobs.PRFKeyset, c.Jobs.Redis}
	for _, cache := range c.Caches {
		values = append(values, cache.Store, cache.KEK, cache.Keyset, cache.TenantKEKs, cache.HiddenKeys, cache.OneWayKeys)
		values = append(values, cache.OtherKEKs...)
	}
	return values
}

// reference matches the forms in which a keyset, a key-encryption key and a URL refer to a variable.
var reference = regexp.MustCompile(`(?:^env:|^(?i:passphrase):env:|[?&](?:sentinel_)?password_env=)([^?&#]+)`)

// unreferenced returns the names to which no value refers.
func unreferenced(names, values []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(values, func(value string) bool { return refersTo(value, name) })
	})
}

// refersTo reports whether a value refers to a variable. In a template, any id may replace {tenant}.
func refersTo(value, name string) bool {
	for _, m := range reference.FindAllStringSubmatch(value, -1) {
		before, after, template := strings.Cut(m[1], "{tenant}")
		if m[1] == name || template && len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after) {
			return true
		}
	}
	return false
}

// envReader sets one variable at a time, so that an error belongs to a variable.
type envReader struct {
	config   Config
	caches   map[string]*Cache
	settings []string          // the variables of Config
	cache    []string          // the variables of Cache without prefix, the longest first
	given    map[string]string // by cache and setting: the variable that gave it
}

func newEnvReader() *envReader {
	r := &envReader{
		caches: make(map[string]*Cache), given: make(map[string]string),
		settings: variablesOf(&Config{}, envPrefix), cache: variablesOf(&Cache{}, ""),
	}
	slices.SortFunc(r.cache, func(a, b string) int { return len(b) - len(a) })
	return r
}

// variablesOf returns the names of the variables that package env reads into target, a pointer to a struct.
func variablesOf(target any, prefix string) []string {
	params, _ := env.GetFieldParamsWithOptions(target, env.Options{Prefix: prefix}) // refuses only other types
	var names []string
	for _, p := range params {
		if p.OwnKey != "" && !p.Ignored {
			names = append(names, p.Key)
		}
	}
	return names
}

// read sets a variable, and reports whether it is a setting.
func (r *envReader) read(name, value string) (known bool, err error) {
	if slices.Contains(r.settings, name) {
		err := setVariable(&r.config, envPrefix, name, value)
		if err == nil && name == envPrefix+"JOBS_QUEUES" && len(r.config.Jobs.Queues) < pairs(value) {
			err = errors.New("the list contains the same queue twice (give each queue once)")
		}
		return true, err
	}
	cache, setting, ok := r.splitCache(name)
	if !ok {
		return false, nil
	}
	id := cache + " " + setting
	if other, twice := r.given[id]; twice {
		return true, fmt.Errorf("this variable sets the same setting as %s (unset one of them)", other)
	}
	r.given[id] = name
	if r.caches[cache] == nil {
		r.caches[cache] = new(Cache)
	}
	err = setVariable(r.caches[cache], strings.TrimSuffix(name, setting), name, value)
	if err == nil && setting == "WRAP_CONTEXT" && len(r.caches[cache].WrapContext) < pairs(value) {
		err = errors.New("the list contains two name=value pairs with the same name (remove one of the two)")
	}
	return true, err
}

// pairs counts the names and values in a list. Of a name that is given twice, package env keeps the last value.
func pairs(list string) int { return strings.Count(list, ",") + 1 }

// splitCache returns the cache and the setting of a variable.
func (r *envReader) splitCache(name string) (cache, setting string, ok bool) {
	rest := strings.TrimPrefix(name, envPrefix)
	if slices.Contains(r.cache, rest) {
		return Default, rest, true
	}
	named, ok := strings.CutPrefix(rest, "CACHES_")
	if !ok {
		return "", "", false
	}
	for _, setting := range r.cache {
		if cache, ok := strings.CutSuffix(named, "_"+setting); ok && cache != "" {
			return strings.ToLower(cache), setting, true
		}
	}
	return "", "", false
}

// setVariable has package env parse one variable into target. Its errors quote values, and are replaced.
func setVariable(target any, prefix, name, value string) error {
	err := env.ParseWithOptions(target, env.Options{Prefix: prefix, Environment: map[string]string{name: value}})
	if err == nil {
		return nil
	}
	var failed env.ParseError
	if errors.As(err, &failed) {
		if name == envPrefix+"JOBS_PLAINTEXT" {
			return errJobsPolicy
		}
		return wrongValue(failed.Type)
	}
	return errors.New("the value has the wrong form for this setting (docs/fx.md describes each setting)")
}

// wrongValue returns an error that names the form of a setting, and does not quote the value.
func wrongValue(t reflect.Type) error {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return errors.New("the value is not a duration such as 90s or 24h")
	case reflect.TypeFor[time.Time]():
		return errors.New("the value is not a time such as 2030-01-31T00:00:00Z")
	case reflect.TypeFor[map[string]string]():
		return errors.New("the value is not a list of name=value pairs such as namespace=shop,app=web")
	case reflect.TypeFor[[]string]():
		return errors.New("the value must be a list of strings such as [a, b]")
	case reflect.TypeFor[middleware.PlaintextPolicy]():
		return errors.New("the value must be \"reject\", \"read\", \"write\" or (for caches only) \"seal-on-read\"")
	}
	switch t.Kind() {
	case reflect.Bool:
		return errors.New("the value must be true or false")
	case reflect.Int:
		return errors.New("the value must be a whole number")
	case reflect.Uint64:
		return errors.New("the value must be a whole number of at least 0")
	case reflect.String:
		return errors.New("the value must be a string")
	case reflect.Map:
		return errors.New("the value is not a list of queues and weights such as critical=6,default=3")
	default:
		return errors.New("the value has the wrong form for this setting (docs/fx.md describes each setting)")
	}
}
