package fxmodule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/keyconfig"
	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

const (
	// maxWeight bounds the weight of a queue. Each time that asynq looks for a task, it makes a list with as many names as
	// the sum of the weights.
	maxWeight = 1000
	// tenantPlaceholder stands for the tenant in Cache.TenantKEKs.
	tenantPlaceholder = "{tenant}"
	// maxOtherKEKs is a bound of aead.NewKEKSet, and maxCatchUp of asynqjobs.WithCatchUp.
	maxOtherKEKs = 15
	maxCatchUp   = time.Minute
)

// Validate reports what is wrong with the Config, as far as that can be known without opening stores and keys. It refuses a
// Config that would leave a cache unsealed without Unsealed. Its errors name caches and settings. Of the values, they show only
// numbers and durations.
func (c Config) Validate() error { return c.validate(false) }

// validate is Validate. If the Config is from the environment, the errors also name variables.
func (c Config) validate(fromEnv bool) error {
	var errs []error
	if len(c.Caches) == 0 {
		errs = append(errs, errors.New("the Config has no caches (add one named \"default\", or set SEALCACHE_STORE and SEALCACHE_KEK)"))
	}
	if c.KeyTimeout < 0 {
		errs = append(errs, errors.New("key_timeout: must not be negative"))
	}
	for _, name := range c.names() {
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("cache name: %w", err))
			continue
		}
		for _, err := range c.Caches[name].problems(newRemedy(fromEnv, cachePrefix(name))) {
			errs = append(errs, fmt.Errorf("cache %q: %w", name, err))
		}
	}
	errs = append(errs, c.namespaceProblems(len(c.Caches) > 1 || !reflect.ValueOf(c.Jobs).IsZero())...)
	if !reflect.ValueOf(c.Jobs).IsZero() {
		for _, err := range c.Jobs.problems(c.Caches, newRemedy(fromEnv, envPrefix+"JOBS_")) {
			errs = append(errs, fmt.Errorf("jobs: %w", err))
		}
	}
	return configError(errs)
}

// cachePrefix begins the variables of a cache, see ConfigFromEnv.
func cachePrefix(name string) string {
	if name == Default {
		return envPrefix
	}
	return envPrefix + "CACHES_" + strings.ToUpper(name) + "_"
}

// remedy returns the remedy of an error, which is to set a setting: set "kek".
type remedy func(setting string) string

// newRemedy returns a remedy that also names the environment variable, if the Config is from the environment: set "kek" or
// SEALCACHE_KEK.
func newRemedy(fromEnv bool, prefix string) remedy {
	return func(setting string) string {
		text := fmt.Sprintf("set %q", setting)
		if fromEnv {
			text += " or " + prefix + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
		}
		return text
	}
}

// ValidateJobs returns an error if jobs cannot be used next to the caches: each cache needs a namespace other than that of
// asynq's own keys. Validate includes it if Jobs is set.
func (c Config) ValidateJobs() error { return configError(c.namespaceProblems(true)) }

func configError(errs []error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("fxmodule: config: %w", err)
	}
	return nil
}

// names returns the names of the caches in order.
func (c Config) names() []string { return slices.Sorted(maps.Keys(c.Caches)) }

func (c Config) namespaceProblems(required bool) []error {
	var errs []error
	for _, name := range c.names() {
		switch ns := c.Caches[name].Namespace; {
		case ns == "" && required:
			errs = append(errs, fmt.Errorf("cache %s: the namespace is missing (with several caches, or with jobs, each cache needs one)", showName(name)))
		case ns == names.Asynq && required:
			errs = append(errs, fmt.Errorf("cache %s: the namespace %q is reserved for asynq's own keys (choose another)", showName(name), names.Asynq))
		}
	}
	return errs
}

// checkName checks the names of caches and keysets.
func checkName(s string) error { return names.Check("the name", s) }

// checkSource checks the place of a keyset.
func checkSource(s string) error {
	_, err := keysetSource(s)
	return err
}

func (c Cache) problems(set remedy) []error {
	var errs []error
	if c.Namespace != "" {
		if err := middleware.CheckNamespace(c.Namespace); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Unsealed {
		errs = append(errs, c.unsealedProblems()...)
	} else {
		errs = append(errs, c.sealedProblems(set)...)
	}
	return append(errs, negatives(c)...)
}

// negatives names the settings of group that are negative.
func negatives(group any) []error {
	var errs []error
	for _, s := range settingsOf(group) {
		if s.negative {
			errs = append(errs, fmt.Errorf("%s: must not be negative", s.name))
		}
	}
	return errs
}

// unsealedProblems names settings that have no effect on an unsealed cache: their author expects a sealed one.
func (c Cache) unsealedProblems() []error {
	var others []string
	for _, s := range settingsOf(c) {
		switch group, _, _ := strings.Cut(s.name, "."); group {
		case "store", "namespace", "unsealed", "ttl":
		default:
			others = append(others, group)
		}
	}
	if len(others) == 0 {
		return nil
	}
	slices.Sort(others)
	return []error{fmt.Errorf("the setting \"unsealed\" excludes the settings \"%s\" (remove \"unsealed\" or the others)", strings.Join(slices.Compact(others), "\", \""))}
}

func (c Cache) sealedProblems(set remedy) []error {
	var errs []error
	switch {
	case c.KEK == "" && c.Keyset != "":
		errs = append(errs, fmt.Errorf("\"keyset\" is set, but \"kek\" is not (%s to the URI of the key that encrypts the keyset)", set("kek")))
	case c.KEK == "":
		errs = append(errs, fmt.Errorf("the cache has no encryption keys (%s, or set \"unsealed\" to true to store plaintext)", set("kek")))
	}
	errs = append(errs, c.otherKEKProblems(set)...)
	errs = append(errs, wrongSetting("keyset", c.Keyset, checkSource)...)
	errs = append(errs, wrongSetting("keyset_name", c.KeysetName, checkName)...)
	if c.Keyset == "" && (c.KeysetReload != 0 || c.KeysetName != "") {
		errs = append(errs, fmt.Errorf("\"keyset_reload\" and \"keyset_name\" have no effect without \"keyset\" (%s)", set("keyset")))
	}
	errs = append(errs, c.tenantProblems(set)...)
	errs = append(errs, c.boundProblems()...)
	switch c.WrapContextState {
	case "":
	case keyconfig.Prepare, keyconfig.Tolerate, keyconfig.Require:
		if len(c.WrapContext) == 0 {
			errs = append(errs, fmt.Errorf("\"wrap_context_state\" has no effect without \"wrap_context\" (%s)", set("wrap_context")))
		}
	default:
		errs = append(errs, errors.New("wrap_context_state: the value must be \"prepare\", \"tolerate\" or \"require\""))
	}
	errs = append(errs, c.packingProblems(set)...)
	if c.Plaintext < middleware.RejectPlaintext || c.Plaintext > middleware.WritePlaintext {
		errs = append(errs, fmt.Errorf("plaintext: %w", wrongValue(reflect.TypeOf(c.Plaintext))))
	}
	return append(errs, untilProblems(c.Plaintext, c.PlaintextUntil, set)...)
}

// boundProblems checks the bounds of package aead and middleware. Negative values have an error already.
func (c Cache) boundProblems() []error {
	var errs []error
	wrong := func(name string, err error) {
		negative := slices.ContainsFunc(settingsOf(c), func(s setting) bool { return s.name == name && s.negative })
		if err != nil && !negative {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, s := range c.envelopeSettings() {
		wrong(s.name, aead.CheckEnvelopeOptions(s.option))
	}
	wrong("wrap_context", aead.CheckEnvelopeOptions(keyconfig.WrapContext(c.WrapContext, c.WrapContextState)...))
	wrong("compress_min_bytes", middleware.CheckOptions(middleware.WithCompression(c.CompressMinBytes)))
	wrong("max_value_bytes", middleware.CheckOptions(options.Given[middleware.Option](nil, c.MaxValueBytes, middleware.WithMaxValueBytes)...))
	return errs
}

// untilProblems checks the end time of a plaintext policy.
func untilProblems(policy middleware.PlaintextPolicy, until time.Time, set remedy) []error {
	switch {
	case policy == middleware.RejectPlaintext && !until.IsZero():
		return []error{fmt.Errorf("\"plaintext_until\" has no effect while \"plaintext\" is \"reject\" (%s to another value)", set("plaintext"))}
	case policy == middleware.WritePlaintext && until.IsZero():
		return []error{fmt.Errorf("the value \"write\" of the setting \"plaintext\" needs an end time (%s)", set("plaintext_until"))}
	}
	return nil
}

// wrongSetting returns the error of check with the name of the setting. A setting without a value is not checked.
func wrongSetting(name, value string, check func(string) error) []error {
	if value == "" {
		return nil
	}
	if err := check(value); err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

// tenantProblems checks the cryptoperiod and the tenant.
func (c Cache) tenantProblems(set remedy) []error {
	var errs []error
	if c.Cryptoperiod != 0 && (c.Keyset == "" || strings.HasPrefix(c.Keyset, "env:")) {
		errs = append(errs, fmt.Errorf("\"cryptoperiod\" needs a keyset in a file (%s to a file, or remove \"cryptoperiod\")", set("keyset")))
	}
	if c.TenantKEKs != "" && !strings.Contains(c.TenantKEKs, tenantPlaceholder) {
		errs = append(errs, errors.New("tenant_keks: the URI must contain \""+tenantPlaceholder+"\" in place of the tenant's id"))
	}
	switch {
	case c.Tenant == "":
	case c.TenantKEKs == "":
		errs = append(errs, fmt.Errorf("\"tenant\" is set, but \"tenant_keks\" is not (%s to the URI of the tenants' keys)", set("tenant_keks")))
	default:
		errs = append(errs, wrongSetting("tenant", c.Tenant, names.CheckTenant)...)
	}
	return errs
}

// packingProblems checks hidden names and compression.
func (c Cache) packingProblems(set remedy) []error {
	var errs []error
	for name, source := range map[string]string{"hidden_keys": c.HiddenKeys, "one_way_keys": c.OneWayKeys} {
		errs = append(errs, wrongSetting(name, source, checkSource)...)
		if source != "" && c.Plaintext != middleware.RejectPlaintext {
			errs = append(errs, fmt.Errorf("%q works only if \"plaintext\" has the value \"reject\" (change \"plaintext\")", name))
		}
	}
	errs = append(errs, wrongSetting("prf_keyset_name", c.PRFKeysetName, checkName)...)
	switch {
	case c.HiddenKeys != "" && c.OneWayKeys != "":
		errs = append(errs, errors.New("\"hidden_keys\" and \"one_way_keys\" cannot be combined (remove one)"))
	case c.PRFKeysetName != "" && c.HiddenKeys == "" && c.OneWayKeys == "":
		errs = append(errs, errors.New("\"prf_keyset_name\" has no effect without \"hidden_keys\" or \"one_way_keys\" (set one of the two)"))
	}
	if c.CompressFast && c.CompressMinBytes == 0 {
		errs = append(errs, fmt.Errorf("\"compress_fast\" has no effect without \"compress_min_bytes\" (%s)", set("compress_min_bytes")))
	}
	return errs
}

func (c Cache) otherKEKProblems(set remedy) []error {
	var errs []error
	if len(c.OtherKEKs) > 0 && c.KEK == "" {
		errs = append(errs, fmt.Errorf("\"other_keks\" is set, but \"kek\" is not (%s to the URI of the key that wraps new data keys)", set("kek")))
	}
	if len(c.OtherKEKs) > maxOtherKEKs {
		errs = append(errs, fmt.Errorf("other_keks: there are %d URIs (at most %d are allowed)", len(c.OtherKEKs), maxOtherKEKs))
	}
	for i, uri := range c.OtherKEKs {
		switch {
		case uri == "":
			errs = append(errs, errors.New("other_keks: a URI is empty"))
		case uri == c.KEK || slices.Contains(c.OtherKEKs[:i], uri):
			errs = append(errs, errors.New("other_keks: a URI is listed twice, or is also the value of \"kek\""))
		}
	}
	return errs
}

var errJobsPolicy = errors.New("for jobs, the value must be \"reject\", \"read\" or \"write\"")

func (j Jobs) problems(caches map[string]Cache, set remedy) []error {
	var errs []error
	if j.Namespace != "" {
		if err := middleware.CheckNamespace(j.Namespace); err != nil {
			errs = append(errs, err)
		}
	}
	switch cache, ok := caches[j.keysOf()]; {
	case !ok:
		errs = append(errs, fmt.Errorf("keys_of: cache %s does not exist (add it to \"caches\", or name another cache)", showName(j.keysOf())))
	case cache.Unsealed:
		errs = append(errs, fmt.Errorf("keys_of: cache %s is unsealed and has no encryption keys (name a sealed cache)", showName(j.keysOf())))
	}
	errs = append(errs, wrongSetting("prf_keyset", j.PRFKeyset, checkSource)...)
	errs = append(errs, wrongSetting("prf_keyset_name", j.PRFKeysetName, checkName)...)
	if j.PRFKeyset == "" {
		if j.PRFKeysetName != "" {
			errs = append(errs, fmt.Errorf("\"prf_keyset_name\" has no effect without \"prf_keyset\" (%s)", set("prf_keyset")))
		}
		if j.HiddenTypes {
			errs = append(errs, errors.New("\"hidden_types\" needs \"prf_keyset\" (\"sealcache keys create --type prf\" makes a PRF keyset)"))
		}
		if j.Schedules != (Schedules{}) {
			errs = append(errs, errors.New("\"schedules\" needs \"prf_keyset\" (\"sealcache keys create --type prf\" makes a PRF keyset)"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(j.Queues)) {
		if name == "" || strings.TrimSpace(name) != name || strings.ContainsAny(name, "{}\r\n") {
			errs = append(errs, errors.New("queues: a name is empty, begins or ends with a space, or contains a brace or line break"))
		}
		if w := j.Queues[name]; w < 1 || w > maxWeight {
			errs = append(errs, fmt.Errorf("queues: the weight of %s is %d (allowed: 1 to %d)", showName(name), w, maxWeight))
		}
	}
	if j.Plaintext != jobs.RejectPlaintext && j.Plaintext != jobs.ReadPlaintext && j.Plaintext != jobs.WritePlaintext {
		errs = append(errs, fmt.Errorf("plaintext: %w", errJobsPolicy))
	}
	errs = append(errs, untilProblems(j.Plaintext, j.PlaintextUntil, set)...)
	if j.Redis != "" && !strings.Contains(j.Redis, "://") {
		errs = append(errs, errors.New("redis: the value is not a URL such as redis://localhost:6379/0"))
	}
	if d := j.Schedules.CatchUp; d > maxCatchUp {
		errs = append(errs, fmt.Errorf("schedules.catch_up: %v is too long (at most %v is allowed)", d, maxCatchUp))
	}
	return append(errs, negatives(j)...)
}

// keysOf returns the name of the cache whose keys seal the jobs.
func (j Jobs) keysOf() string {
	return cmp.Or(j.KeysOf, Default)
}
