package cases

// The names that may change from release to release, in one place.

import (
	"context"
	"log/slog"

	"github.com/redis/go-redis/v9"
	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/tink-crypto/tink-go/v2/tink"
)

func keyringLogger(l *slog.Logger) aead.KeyringOption { return aead.WithLogger(l) }

type (
	auditConfig = audit.Config
	auditReport = audit.Report
	answer      = audit.Answer
)

const answerNo = audit.No

func auditServer(ctx context.Context, c redis.UniversalClient, cfg auditConfig) (*auditReport, error) {
	return audit.Run(ctx, c, cfg)
}

func openEntry(ctx context.Context, c redis.UniversalClient, namespace, key string, k tink.AEADWithContext) (any, error) {
	return audit.Open(ctx, c, namespace, key, k)
}
