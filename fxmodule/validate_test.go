package fxmodule_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	sealed := fxmodule.Cache{Store: "memory://", KEK: "file:///kek", Namespace: "ns"}
	insecure := fxmodule.Cache{Store: "memory://", Unsealed: true, Namespace: "insecure"}
	with := func(change func(*fxmodule.Cache)) fxmodule.Config {
		c := sealed
		change(&c)
		return one(c)
	}
	withJobs := func(j fxmodule.Jobs) fxmodule.Config {
		return fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": sealed, "insecure": insecure}, Jobs: j}
	}
	bare := with(func(c *fxmodule.Cache) { c.Namespace = "" }).Caches["default"]
	until := time.Now().Add(time.Hour)

	for name, config := range map[string]fxmodule.Config{
		"sealed":             one(sealed),
		"alone":              one(bare),
		"unsealed":           one(fxmodule.Cache{Unsealed: true}),
		"keyset":             with(func(c *fxmodule.Cache) { c.Keyset, c.KeysetReload = "env:KEYSET", time.Second }),
		"relative path":      with(func(c *fxmodule.Cache) { c.Keyset = "./keyset.json" }),
		"write until":        with(func(c *fxmodule.Cache) { c.Plaintext, c.PlaintextUntil = middleware.WritePlaintext, until }),
		"read":               with(func(c *fxmodule.Cache) { c.Plaintext = middleware.ReadPlaintext }),
		"jobs":               withJobs(fxmodule.Jobs{Namespace: "billing"}),
		"no default":         {Caches: map[string]fxmodule.Cache{"a": sealed}},
		"several caches":     withJobs(fxmodule.Jobs{}),
		"namespace of asynq": with(func(c *fxmodule.Cache) { c.Namespace = "asynq" }),
	} {
		require.NoError(t, config.Validate(), name)
	}

	for name, c := range map[string]struct {
		config fxmodule.Config
		want   string
	}{
		"empty":                {fxmodule.Config{}, "no caches"},
		"key timeout":          {fxmodule.Config{Caches: one(sealed).Caches, KeyTimeout: -1}, "key_timeout: must not be negative"},
		"empty name":           {fxmodule.Config{Caches: map[string]fxmodule.Cache{"": sealed}}, "cache name: the name has 0 bytes"},
		"name":                 {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a b": sealed}}, `cache name: the name has the byte " " at position 1`},
		"long name":            {fxmodule.Config{Caches: map[string]fxmodule.Cache{strings.Repeat("a", 65): sealed}}, "65 bytes"},
		"nothing set":          {one(fxmodule.Cache{}), `cache "default": the cache has no encryption keys`},
		"no keys":              {with(func(c *fxmodule.Cache) { c.KEK = "" }), "the cache has no encryption keys"},
		"other KEKs alone":     {with(func(c *fxmodule.Cache) { c.KEK, c.OtherKEKs = "", []string{"file:///old"} }), "\"other_keks\" is set, but \"kek\" is not"},
		"empty other KEK":      {with(func(c *fxmodule.Cache) { c.OtherKEKs = []string{""} }), "other_keks: a URI is empty"},
		"other KEK twice":      {with(func(c *fxmodule.Cache) { c.OtherKEKs = []string{"file:///old", "file:///old"} }), "other_keks: a URI is listed twice, or is also the value of \"kek\""},
		"KEK as other KEK":     {with(func(c *fxmodule.Cache) { c.OtherKEKs = []string{c.KEK} }), "other_keks: a URI is listed twice, or is also the value of \"kek\""},
		"cryptoperiod":         {with(func(c *fxmodule.Cache) { c.Keyset, c.Cryptoperiod = "/k", -1 }), "cryptoperiod: must not be negative"},
		"cryptoperiod alone":   {with(func(c *fxmodule.Cache) { c.Cryptoperiod = 1 }), "\"cryptoperiod\" needs a keyset in a file"},
		"cryptoperiod of env":  {with(func(c *fxmodule.Cache) { c.Keyset, c.Cryptoperiod = "env:K", 1 }), "\"cryptoperiod\" needs a keyset in a file"},
		"tenant alone":         {with(func(c *fxmodule.Cache) { c.Tenant = "acme" }), "\"tenant\" is set, but \"tenant_keks\" is not (set \"tenant_keks\" to the URI of the tenants' keys)"},
		"tenant template":      {with(func(c *fxmodule.Cache) { c.TenantKEKs = "file:///k" }), "tenant_keks: the URI must contain \"{tenant}\" in"},
		"tenant name":          {with(func(c *fxmodule.Cache) { c.TenantKEKs, c.Tenant = "file:///{tenant}", "a/b" }), `tenant: the tenant id has the byte "/" at position 1`},
		"tenant begins":        {with(func(c *fxmodule.Cache) { c.TenantKEKs, c.Tenant = "file:///{tenant}", ".." }), "tenant: the tenant id must begin"},
		"unsealed tenant":      {one(fxmodule.Cache{Store: "memory://", Unsealed: true, Tenant: "a", TenantKEKs: "x", Cryptoperiod: 1}), "the setting \"unsealed\" excludes the settings \"cryptoperiod\", \"tenant\", \"tenant_keks\""},
		"keyset alone":         {with(func(c *fxmodule.Cache) { c.KEK, c.Keyset = "", "/k" }), "\"keyset\" is set, but \"kek\" is not"},
		"namespace":            {with(func(c *fxmodule.Cache) { c.Namespace = "a:b" }), `cache "default": the namespace has the byte ":" at position 1`},
		"namespace of tags":    {with(func(c *fxmodule.Cache) { c.Namespace = "gocache_tag_a" }), `cache "default": the namespace must not start with gocache_tag_`},
		"unsealed, of tags":    {with(func(c *fxmodule.Cache) { c.Namespace, c.Unsealed, c.KEK = "freecache_tag_a", true, "" }), `cache "default": the namespace must not start with gocache_tag_`},
		"ttl":                  {with(func(c *fxmodule.Cache) { c.TTL = -1 }), "ttl: must not be negative"},
		"reload, no keyset":    {with(func(c *fxmodule.Cache) { c.KeysetReload = 1 }), "\"keyset_reload\" and \"keyset_name\" have no effect without \"keyset\" (set \"keyset\")"},
		"reload":               {with(func(c *fxmodule.Cache) { c.Keyset, c.KeysetReload = "/k", -1 }), "keyset_reload: must not be negative"},
		"name, no keyset":      {with(func(c *fxmodule.Cache) { c.KeysetName = "shop" }), "\"keyset_reload\" and \"keyset_name\" have no effect without \"keyset\" (set \"keyset\")"},
		"keyset name":          {with(func(c *fxmodule.Cache) { c.Keyset, c.KeysetName = "/k", "a b" }), "keyset_name: the name has the byte"},
		"both names":           {with(func(c *fxmodule.Cache) { c.HiddenKeys, c.OneWayKeys = "/k", "/k" }), "\"hidden_keys\" and \"one_way_keys\" cannot be combined (remove one)"},
		"hidden plaintext":     {with(func(c *fxmodule.Cache) { c.HiddenKeys, c.Plaintext = "/k", middleware.ReadPlaintext }), "\"hidden_keys\" works only if \"plaintext\" has the value \"reject\""},
		"no prf keyset":        {with(func(c *fxmodule.Cache) { c.PRFKeysetName = "n" }), "\"prf_keyset_name\" has no effect without \"hidden_keys\" or \"one_way_keys\" (set one of the two)"},
		"no compression":       {with(func(c *fxmodule.Cache) { c.CompressFast = true }), "\"compress_fast\" has no effect without \"compress_min_bytes\" (set \"compress_min_bytes\")"},
		"max value":            {with(func(c *fxmodule.Cache) { c.MaxValueBytes = -1 }), "max_value_bytes: must not be negative"},
		"max age":              {with(func(c *fxmodule.Cache) { c.DataKeys.MaxAge = -1 }), "data_keys.max_age: must not be negative"},
		"data key cache":       {with(func(c *fxmodule.Cache) { c.DataKeys.CacheSize = -1 }), "data_keys.cache_size: must not be negative"},
		"compression":          {with(func(c *fxmodule.Cache) { c.CompressMinBytes = 1 }), "compress_min_bytes: middleware: CheckOptions: WithCompression(1): the number of bytes"},
		"data key messages":    {with(func(c *fxmodule.Cache) { c.DataKeys.MaxMessages = 1<<32 + 1 }), "data_keys.max_messages: aead: WithMaxMessages(4294967297)"},
		"data key bytes":       {with(func(c *fxmodule.Cache) { c.DataKeys.MaxBytes = 1<<48 + 1 }), "data_keys.max_bytes: aead: WithMaxBytes("},
		"data keys in memory":  {with(func(c *fxmodule.Cache) { c.DataKeys.CacheSize = 1<<20 + 1 }), "data_keys.cache_size: aead: WithDataKeyCache("},
		"wrap context's name":  {with(func(c *fxmodule.Cache) { c.WrapContext = map[string]string{"tenant": "a"} }), "wrap_context: aead: WithWrapContext: the wrap context must not contain the name"},
		"wrap context's value": {with(func(c *fxmodule.Cache) { c.WrapContext, c.WrapContextState = map[string]string{"a": ""}, "prepare" }), "wrap_context: aead: WithOtherWrapContexts: a value in the wrap context is empty"},
		"many other KEKs": {with(func(c *fxmodule.Cache) {
			c.OtherKEKs = strings.Split(strings.Repeat("file:///k,", 15)+"file:///k", ",")
		}), "other_keks: there are 16 URIs (at most 15 are allowed)"},
		"data key ttl":         {with(func(c *fxmodule.Cache) { c.DataKeys.TTL = -1 }), "data_keys.ttl: must not be negative"},
		"policy":               {with(func(c *fxmodule.Cache) { c.Plaintext = 99 }), "plaintext: the value must be \"reject\", \"read\", \"write\" or (for caches only) \"seal-on-read\""},
		"until":                {with(func(c *fxmodule.Cache) { c.PlaintextUntil = until }), "\"plaintext_until\" has no effect while \"plaintext\" is \"reject\""},
		"write without end":    {with(func(c *fxmodule.Cache) { c.Plaintext = middleware.WritePlaintext }), "the value \"write\" of the setting \"plaintext\" needs an end time"},
		"keyset source":        {with(func(c *fxmodule.Cache) { c.Keyset = "hcvault://k" }), "keyset: the value must be env:NAME, file:///path, or a path"},
		"keyset without slash": {with(func(c *fxmodule.Cache) { c.Keyset = "keyset.json" }), "keyset: the value must be env:NAME, file:///path, or a path"},
		"keyset URL":           {with(func(c *fxmodule.Cache) { c.Keyset = "file://host/k" }), "keyset: the value is not a file URL"},
		"keyset variable":      {with(func(c *fxmodule.Cache) { c.Keyset = "env:" }), "the text after \"env:\" must name a variable"},
		"keyset odd variable":  {with(func(c *fxmodule.Cache) { c.Keyset = "env:a-b" }), "the text after \"env:\" must name a variable"},
		"keyset itself":        {with(func(c *fxmodule.Cache) { c.Keyset = `{"primaryKeyId":1}` }), "keyset: the value must be env:NAME, file:///path, or a path"},
		"unsealed with kek":    {one(fxmodule.Cache{Unsealed: true, KEK: "file:///kek"}), "the setting \"unsealed\" excludes the settings \"kek"},
		"unsealed with all": {one(fxmodule.Cache{Unsealed: true, KEK: "x:", Keyset: "/k", KeysetName: "n", KeysetReload: 1, MaxValueBytes: 1, MissOnOpenFailure: true, Plaintext: middleware.ReadPlaintext, PlaintextUntil: until, DataKeys: fxmodule.DataKeys{CacheSize: 1}, Codecs: []middleware.Codec{middleware.JSON[int]()}}),
			`"codecs", "data_keys", "kek", "keyset", "keyset_name", "keyset_reload", "max_value_bytes", "miss_on_open_failure", "plaintext", "plaintext_until"`},
		"two caches":          {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": sealed, "b": bare}}, `cache "b": the namespace is missing`},
		"two unsealed":        {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": sealed, "b": {Store: "memory://", Unsealed: true}}}, `cache "b": the namespace is missing`},
		"jobs, no name":       {fxmodule.Config{Caches: one(bare).Caches, Jobs: fxmodule.Jobs{Redis: "redis://h"}}, `cache "default": the namespace is missing`},
		"jobs' keys":          {withJobs(fxmodule.Jobs{KeysOf: "nobody"}), `jobs: keys_of: cache "nobody" does not exist`},
		"jobs, unsealed":      {withJobs(fxmodule.Jobs{KeysOf: "insecure"}), `keys_of: cache "insecure" is unsealed`},
		"jobs' default":       {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": sealed}, Jobs: fxmodule.Jobs{Namespace: "n"}}, `jobs: keys_of: cache "default" does not exist`},
		"jobs' namespace":     {withJobs(fxmodule.Jobs{Namespace: "a b"}), "jobs: the namespace has the byte"},
		"jobs' keyset":        {withJobs(fxmodule.Jobs{PRFKeyset: "env:"}), "jobs: prf_keyset"},
		"jobs' name":          {withJobs(fxmodule.Jobs{PRFKeysetName: "n"}), "jobs: \"prf_keyset_name\" has no effect without \"prf_keyset\" (set \"prf_keyset\")"},
		"jobs' odd name":      {withJobs(fxmodule.Jobs{PRFKeyset: "/k", PRFKeysetName: "a b"}), "jobs: prf_keyset_name: the name has the byte"},
		"jobs' compression":   {withJobs(fxmodule.Jobs{CompressMinBytes: -1}), "jobs: compress_min_bytes: must not be negative"},
		"jobs' payloads":      {withJobs(fxmodule.Jobs{MaxPayloadBytes: -1}), "jobs: max_payload_bytes: must not be negative"},
		"jobs' weight":        {withJobs(fxmodule.Jobs{Queues: map[string]int{"low": 0}}), `jobs: queues: the weight of "low" is 0 (allowed: 1 to 1000`},
		"jobs' weights":       {withJobs(fxmodule.Jobs{Queues: map[string]int{"low": 1001}}), "1 to 1000"},
		"jobs' queue":         {withJobs(fxmodule.Jobs{Queues: map[string]int{" low": 1}}), "jobs: queues: a name is empty"},
		"jobs' brace":         {withJobs(fxmodule.Jobs{Queues: map[string]int{"{low": 1}}), "jobs: queues: a name is empty"},
		"jobs' concurrency":   {withJobs(fxmodule.Jobs{Concurrency: -1}), "jobs: concurrency: must not be negative"},
		"jobs' shutdown":      {withJobs(fxmodule.Jobs{ShutdownTimeout: -1}), "jobs: shutdown_timeout: must not be negative"},
		"jobs' catch-up":      {withJobs(fxmodule.Jobs{PRFKeyset: "/k", Schedules: fxmodule.Schedules{CatchUp: -1}}), "jobs: schedules.catch_up: must not be negative"},
		"jobs' policy":        {withJobs(fxmodule.Jobs{Plaintext: middleware.SealOnRead}), "jobs: plaintext: for jobs, the value must be \"reject\", \"read\" or \"write\""},
		"jobs' odd policy":    {withJobs(fxmodule.Jobs{Plaintext: -1}), "jobs: plaintext: for jobs, the value must be"},
		"jobs' until":         {withJobs(fxmodule.Jobs{PlaintextUntil: until}), "jobs: \"plaintext_until\" has no effect while \"plaintext\" is \"reject\""},
		"jobs' write":         {withJobs(fxmodule.Jobs{Plaintext: jobs.WritePlaintext}), "jobs: the value \"write\" of the setting \"plaintext\" needs an end time"},
		"jobs' types":         {withJobs(fxmodule.Jobs{HiddenTypes: true}), "jobs: \"hidden_types\" needs \"prf_keyset\""},
		"jobs' long catch-up": {withJobs(fxmodule.Jobs{PRFKeyset: "/k", Schedules: fxmodule.Schedules{CatchUp: time.Hour}}), "jobs: schedules.catch_up: 1h0m0s is too long (at most 1m0s is allowed)"},
		"jobs' schedules":     {withJobs(fxmodule.Jobs{Schedules: fxmodule.Schedules{CatchUp: time.Second}}), "jobs: \"schedules\" needs \"prf_keyset\""},
		"asynq's namespace":   {fxmodule.Config{Caches: with(func(c *fxmodule.Cache) { c.Namespace = "asynq" }).Caches, Jobs: fxmodule.Jobs{Redis: "rediss://u:p@H:6379/0"}}, `is reserved for asynq's own keys`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, c.config.Validate(), c.want)
			require.ErrorContains(t, newApp(c.config).Err(), c.want, "the module validates by itself")
		})
	}

	err := one(fxmodule.Cache{Store: "memory://", KEK: "file:///k", TenantKEKs: "file:///k"}).Validate()
	require.ErrorContains(t, err, "tenant_keks: the URI must contain \"{tenant}\" in")

	require.NoError(t, one(bare).Validate())
	require.ErrorContains(t, one(bare).ValidateJobs(), "the namespace is missing")

	t.Run("everything is reported at once", func(t *testing.T) {
		t.Parallel()
		err := fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": {TTL: -1}, "b": {Store: "memory://"}}}.Validate()
		for _, want := range []string{`cache "a": ttl`, `cache "a": the cache has no encryption keys`, `cache "b": the cache has no encryption keys`} {
			require.ErrorContains(t, err, want)
		}
	})
}

// A jobs.redis that is not a URL is refused before anything is opened. No part of it is shown: it may be a user or password.
func TestJobsRedisThatIsNotAURL(t *testing.T) {
	t.Parallel()
	c := fxmodule.Config{
		Caches: map[string]fxmodule.Cache{"default": {Store: "myhost:6379", KEK: "someone:hunter", Namespace: "ns"}},
		Jobs:   fxmodule.Jobs{Redis: "someone:hunter@myhost"},
	}
	require.ErrorContains(t, c.Validate(), "jobs: redis: the value is not a URL")
	for _, part := range []string{"someone", "hunter", "myhost"} {
		require.NotContains(t, c.Validate().Error(), part)
		require.NotContains(t, c.String(), part)
	}
	c.Caches["default"] = fxmodule.Cache{Store: "memory://", KEK: "passphrase:env:NAME", Namespace: "ns"}
	c.Jobs.Redis = "rediss://app:hunter@redis"
	require.NoError(t, c.Validate())
	for _, scheme := range []string{"memory:...", "passphrase:...", "rediss:..."} {
		require.Contains(t, c.String(), scheme)
	}
}

// The remedy of a missing setting names its environment variable, too, if the Config is from the environment.
func TestRemediesNameTheVariable(t *testing.T) {
	t.Parallel()
	environ := []string{
		"SEALCACHE_STORE=memory://", "SEALCACHE_CACHES_USERS_STORE=memory://", "SEALCACHE_CACHES_USERS_NAMESPACE=n",
		"SEALCACHE_CACHES_USERS_KEK=file:///k", "SEALCACHE_CACHES_USERS_PLAINTEXT=write", "SEALCACHE_JOBS_KEYS_OF=users", "SEALCACHE_JOBS_PLAINTEXT=write",
	}
	_, err := fxmodule.ConfigFromEnviron(environ)
	require.ErrorContains(t, err, `(set "kek" or SEALCACHE_KEK, or`)
	require.ErrorContains(t, err, `(set "plaintext_until" or SEALCACHE_CACHES_USERS_PLAINTEXT_UNTIL)`)
	require.ErrorContains(t, err, `(set "plaintext_until" or SEALCACHE_JOBS_PLAINTEXT_UNTIL)`)

	const text = "caches: {Users: {store: \"memory://\"}}"
	_, err = fxmodule.ConfigFromYAML(strings.NewReader(text))
	require.ErrorContains(t, err, `(set "kek", or`)
	require.NotContains(t, err.Error(), "SEALCACHE_")

	_, err = fxmodule.ConfigFromYAML(iotest.ErrReader(sealtest.PanickingError{Cause: io.EOF}))
	require.ErrorIs(t, err, io.EOF)
	require.NotContains(t, err.Error(), sealtest.PanicSecret)
}
