package fxmodule

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// newEncryptor makes the encryptor of jobs with the keys of the cache that the Config names. It returns nil if the Config
// names none and the default cache has no keys.
func newEncryptor(ctx context.Context, in inputs, log *slog.Logger, keys *Keys) (*jobs.Encryptor, error) {
	j, name := in.Config.Jobs, in.Config.Jobs.keysOf()
	if _, err := keys.Envelope(name); err != nil {
		return nil, nil //nolint:nilerr,nilnil // Validate refuses jobs without keys
	}
	tenant := in.Config.Caches[name].Tenant
	seals, err := keys.aead(name, tenant)
	if err != nil {
		return nil, fmt.Errorf("fxmodule: jobs: get the keys: %w", err)
	}
	opts := []jobs.Option{jobs.WithLogger(log)}
	opts = options.Given(opts, j.Namespace, jobs.WithNamespace)
	opts = options.Given(opts, j.CompressMinBytes, jobs.WithCompression)
	opts = options.Given(opts, j.MaxPayloadBytes, jobs.WithMaxPayloadBytes)
	if !nilcheck.IsNil(in.Meters) {
		opts = append(opts, jobs.WithMeterProvider(in.Meters))
	}
	if ring, err := keys.Keyring(name); err == nil && tenant == "" {
		opts = append(opts, jobs.WithReload(ring.Reload))
	}
	if j.PRFKeyset != "" {
		source, err := keysetSource(j.PRFKeyset)
		if err != nil {
			return nil, fmt.Errorf("fxmodule: jobs: prf_keyset: %w", err)
		}
		set, err := aead.OpenPRF(ctx, source, keys.kekOf[name], append(keysetName(j.PRFKeysetName), aead.WithLogger(log))...)
		if err != nil {
			return nil, fmt.Errorf("fxmodule: jobs: open prf_keyset: %w", err)
		}
		opts = append(opts, jobs.WithPRF(set))
	}
	e, err := jobs.NewEncryptor(seals, opts...)
	if err != nil {
		return nil, fmt.Errorf("fxmodule: jobs: %w", err)
	}
	return e, nil
}
