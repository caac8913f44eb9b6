package middleware_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

const (
	largeValueBytes  = 100 << 20
	largeValuePeak   = 240 << 20 // resident, with the value itself and this test binary
	largeValueServer = "SEALCACHE_TEST_LARGE_VALUES"
)

// A process that sets values of 100 MiB again and again has one sealed copy of them in memory.
func TestRepeatedLargeValuesNeedOneBuffer(t *testing.T) { //nolint:paralleltest // 100 MiB
	if raceEnabled {
		t.Skip("the race detector multiplies memory")
	}
	if addr := os.Getenv(largeValueServer); addr != "" {
		setLargeValues(t, addr)
		return
	}
	srv := redistest.Start(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOMEMLIMIT=") || strings.HasPrefix(v, "GOGC=")
	}), largeValueServer+"="+srv.Addr())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	_, after, found := strings.Cut(string(out), "VmHWM:")
	require.True(t, found, string(out))
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(t, err)
	t.Logf("peak: %d MiB", kib>>10)
	require.LessOrEqual(t, kib<<10, largeValuePeak)
}

// setLargeValues is the process that is measured.
func setLargeValues(t *testing.T, addr string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, WriteTimeout: time.Minute, ReadTimeout: time.Minute})
	defer client.Close()
	backing, err := redisstore.New(client)
	require.NoError(t, err)
	s, err := middleware.New(backing, sealtest.Keyring(t))
	require.NoError(t, err)
	value := bytes.Repeat([]byte{1}, largeValueBytes)
	for range 5 {
		require.NoError(t, s.Set(context.Background(), "large", value))
	}
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(line) //nolint:forbidigo // the parent process reads it
		}
	}
	runtime.KeepAlive(value)
}
