package matrix

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/sealcache/sealcache/middleware"
)

// A store of gocache declares no capabilities, so New has nothing to warn of.
func TestStartLogsNothing(t *testing.T) {
	t.Parallel()
	for name, backing := range gocacheStores(t) {
		var log bytes.Buffer
		_, err := middleware.New(backing, envelope(t), middleware.WithNamespace("shop"), middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		if log.Len() > 0 {
			t.Errorf("%s: the log has %q", name, log.String())
		}
	}
}
