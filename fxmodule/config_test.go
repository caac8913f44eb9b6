package fxmodule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	sealed := fxmodule.Cache{Store: "memory://", KEK: "file:///kek"}
	with := func(change func(*fxmodule.Cache)) fxmodule.Config {
		c := sealed
		change(&c)
		return one(c)
	}
	withJobs := func(j fxmodule.Jobs) fxmodule.Config {
		return fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": sealed, "insecure": {Clear: true, Store: "memory://"}}, Jobs: j}
	}
	until := time.Now().Add(time.Hour)

	for name, config := range map[string]fxmodule.Config{
		"sealed":              one(sealed),
		"clear":               one(fxmodule.Cache{Clear: true}),
		"keyset":              with(func(c *fxmodule.Cache) { c.Keyset, c.KeysetReload = "env:KEYSET", time.Second }),
		"write until":         with(func(c *fxmodule.Cache) { c.Plaintext, c.PlaintextUntil = middleware.WritePlaintext, until }),
		"read":                with(func(c *fxmodule.Cache) { c.Plaintext = middleware.ReadPlaintext }),
		"jobs":                withJobs(fxmodule.Jobs{Namespace: "billing"}),
		"jobs of no cache":    {Caches: map[string]fxmodule.Cache{"a": sealed}},
		"Redis side by side":  {Caches: map[string]fxmodule.Cache{"a": {KEK: "file:///kek", Store: "redis://h", Namespace: "a"}, "b": {Clear: true, Store: "redis://h", Namespace: "b"}}},
		"two databases":       {Caches: map[string]fxmodule.Cache{"a": {KEK: "file:///kek", Store: "redis://h"}, "b": {Clear: true, Store: "redis://h/1"}}},
		"memory side by side": {Caches: map[string]fxmodule.Cache{"a": sealed, "b": sealed}},
	} {
		require.NoError(t, config.Validate(), name)
	}

	for name, c := range map[string]struct {
		config fxmodule.Config
		want   string
	}{
		"empty":             {fxmodule.Config{}, "there is no cache"},
		"key timeout":       {fxmodule.Config{Caches: one(sealed).Caches, KeyTimeout: -1}, "key_timeout is negative"},
		"empty name":        {fxmodule.Config{Caches: map[string]fxmodule.Cache{"": sealed}}, "cache name: of 0 bytes"},
		"name":              {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a b": sealed}}, "cache name: byte ' ' at 1"},
		"long name":         {fxmodule.Config{Caches: map[string]fxmodule.Cache{strings.Repeat("a", 65): sealed}}, "of 65 bytes"},
		"says nothing":      {one(fxmodule.Cache{}), `cache "default": it has no keys`},
		"no keys":           {with(func(c *fxmodule.Cache) { c.KEK = "" }), "or say clear"},
		"keyset alone":      {with(func(c *fxmodule.Cache) { c.KEK, c.Keyset = "", "/k" }), "give it as kek: file:///path instead"},
		"namespace":         {with(func(c *fxmodule.Cache) { c.Namespace = "a:b" }), "namespace: byte ':' at 1"},
		"ttl":               {with(func(c *fxmodule.Cache) { c.TTL = -1 }), "ttl is negative"},
		"reload, no keyset": {with(func(c *fxmodule.Cache) { c.KeysetReload = 1 }), "keyset_reload without keyset"},
		"reload":            {with(func(c *fxmodule.Cache) { c.Keyset, c.KeysetReload = "/k", -1 }), "keyset_reload is negative"},
		"max value":         {with(func(c *fxmodule.Cache) { c.MaxValueBytes = -1 }), "max_value_bytes is negative"},
		"max age":           {with(func(c *fxmodule.Cache) { c.DataKeys.MaxAge = -1 }), "data_keys.max_age is negative"},
		"data key cache":    {with(func(c *fxmodule.Cache) { c.DataKeys.Cache = -1 }), "data_keys.cache is negative"},
		"data key ttl":      {with(func(c *fxmodule.Cache) { c.DataKeys.TTL = -1 }), "data_keys.ttl is negative"},
		"policy":            {with(func(c *fxmodule.Cache) { c.Plaintext = 99 }), "no such policy"},
		"until":             {with(func(c *fxmodule.Cache) { c.PlaintextUntil = until }), "plaintext_until without plaintext"},
		"write for ever":    {with(func(c *fxmodule.Cache) { c.Plaintext = middleware.WritePlaintext }), "leaves it in clear for ever"},
		"keyset source":     {with(func(c *fxmodule.Cache) { c.Keyset = "hcvault://k" }), "keyset: neither the path of a file nor env:NAME"},
		"keyset URL":        {with(func(c *fxmodule.Cache) { c.Keyset = "file://host/k" }), "keyset: not a file URL"},
		"keyset variable":   {with(func(c *fxmodule.Cache) { c.Keyset = "env:" }), "needs the name of a variable"},
		"keyset itself":     {with(func(c *fxmodule.Cache) { c.Keyset = `{"primaryKeyId":1}` }), "keyset: neither"},
		"clear with kek":    {one(fxmodule.Cache{Clear: true, KEK: "file:///kek"}), "clear says that it is not sealed, but kek is for a sealed one"},
		"clear with keyset": {one(fxmodule.Cache{Clear: true, Keyset: "k"}), "but keyset is"},
		"clear with much":   {one(fxmodule.Cache{Clear: true, KeysetReload: 1, MaxValueBytes: 1, MissOnOpenFailure: true, Plaintext: middleware.ReadPlaintext, PlaintextUntil: until, DataKeys: fxmodule.DataKeys{Cache: 1}, Codecs: []middleware.Codec{middleware.JSON[int]()}}), "codecs, data_keys, keyset_reload, max_value_bytes, miss_on_open_failure, plaintext, plaintext_until"},
		"jobs' cache":       {withJobs(fxmodule.Jobs{Cache: "nobody"}), `jobs: they use the keys of cache "nobody", which does not exist`},
		"jobs in clear":     {withJobs(fxmodule.Jobs{Cache: "insecure"}), "which is in clear"},
		"jobs' default":     {fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": sealed}, Jobs: fxmodule.Jobs{Namespace: "n"}}, `jobs: they use the keys of cache "default"`},
		"jobs' namespace":   {withJobs(fxmodule.Jobs{Namespace: "a b"}), "jobs: namespace: byte"},
		"jobs' keyset":      {withJobs(fxmodule.Jobs{PRFKeyset: "env:"}), "jobs: prf_keyset"},
		"jobs' compression": {withJobs(fxmodule.Jobs{CompressMinBytes: -1}), "compress_min_bytes is negative"},
		"jobs' payloads":    {withJobs(fxmodule.Jobs{MaxPayloadBytes: -1}), "max_payload_bytes is negative"},
		"jobs' weight":      {withJobs(fxmodule.Jobs{Queues: map[string]int{"low": 0}}), `jobs: queues: the weight of "low" is 0: it takes 1 to 1000`},
		"jobs' weights":     {withJobs(fxmodule.Jobs{Queues: map[string]int{"low": 1001}}), "it takes 1 to 1000"},
		"jobs' queue":       {withJobs(fxmodule.Jobs{Queues: map[string]int{" low": 1}}), "jobs: queues: a name is empty"},
		"jobs' brace":       {withJobs(fxmodule.Jobs{Queues: map[string]int{"{low": 1}}), "jobs: queues: a name is empty"},
		"jobs' concurrency": {withJobs(fxmodule.Jobs{Concurrency: -1}), "jobs: concurrency is negative"},
		"jobs' shutdown":    {withJobs(fxmodule.Jobs{ShutdownTimeout: -1}), "jobs: shutdown_timeout is negative"},
		"jobs' poll":        {withJobs(fxmodule.Jobs{PRFKeyset: "k", Schedules: fxmodule.Schedules{Poll: -1}}), "jobs: schedules.poll is negative"},
		"jobs' catch-up":    {withJobs(fxmodule.Jobs{PRFKeyset: "k", Schedules: fxmodule.Schedules{CatchUp: -1}}), "jobs: schedules.catch_up is negative"},
		"jobs' types":       {withJobs(fxmodule.Jobs{HiddenTypes: true}), "jobs: hidden_types without prf_keyset"},
		"jobs' schedules":   {withJobs(fxmodule.Jobs{Schedules: fxmodule.Schedules{Poll: time.Second}}), "jobs: schedules without prf_keyset"},
		"asynq's namespace": {fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": {KEK: "file:///kek", Store: "redis://h", Namespace: "asynq"}}, Jobs: fxmodule.Jobs{Redis: "rediss://u:p@H:6379/0"}}, `jobs: cache "default" is in their Redis under the namespace "asynq"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, c.config.Validate(), c.want)
			require.ErrorContains(t, newApp(c.config).Err(), c.want, "the module checks by itself")
		})
	}

	t.Run("everything is reported at once", func(t *testing.T) {
		t.Parallel()
		err := fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": {TTL: -1}, "b": {Store: "memory://"}}}.Validate()
		for _, want := range []string{`cache "a": ttl`, `cache "a": it has no keys`, `cache "b": it has no keys`} {
			require.ErrorContains(t, err, want)
		}
	})
}

// What is no URL is refused before anything is opened, and what stands before its colon is shown nowhere: it may be a user.
func TestJobsRedisThatIsNoURL(t *testing.T) {
	t.Parallel()
	c := fxmodule.Config{
		Caches: map[string]fxmodule.Cache{"default": {Store: "myhost:6379", KEK: "someone:hunter"}},
		Jobs:   fxmodule.Jobs{Redis: "someone:hunter@myhost"},
	}
	require.ErrorContains(t, c.Validate(), "jobs: redis is not a URL")
	for _, part := range []string{"someone", "hunter", "myhost"} {
		require.NotContains(t, c.Validate().Error(), part)
		require.NotContains(t, c.String(), part)
	}
	c.Caches["default"] = fxmodule.Cache{Store: "memory://", KEK: "passphrase:env:NAME"}
	c.Jobs.Redis = "rediss://app:hunter@redis"
	require.NoError(t, c.Validate())
	for _, scheme := range []string{"memory:...", "passphrase:...", "rediss:..."} {
		require.Contains(t, c.String(), scheme)
	}
}
