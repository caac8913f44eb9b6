package rediserr_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/redistest"
)

// canary is the value or key name that a text quotes.
const canary = "secret:canary 42"

// quoting are texts with a canary, and their remains.
var quoting = map[string]string{
	// Redis 7 and its imitators
	"ERR unknown command 'UNLINK', with args beginning with: '" + canary + "' ":                                   "ERR unknown command 'UNLINK'",
	"ERR unknown command `unlink`, with args beginning with: `" + canary + "`, ":                                  "ERR unknown command `unlink`",
	"ERR unknown command 'get', with args beginning with: " + canary:                                              "ERR unknown command 'get'",
	"ERR unknown command '" + canary + "'":                                                                        "ERR unknown command",
	"NOPERM User app has no permissions to access the '" + canary + "' key":                                       "NOPERM User app has no permissions to access the",
	"NOPERM User app has no permissions to access the '" + canary + "' channel":                                   "NOPERM User app has no permissions to access the",
	"EXECABORT Transaction discarded because of: unknown command 'x', with args beginning with: '" + canary + "'": "EXECABORT Transaction discarded because of: unknown command 'x'",
	"-NOGROUP No such key '" + canary + "' or consumer group 'g'":                                                 "-NOGROUP",
	"ERR Invalid argument '" + canary + "' to SENTINEL CONFIG SET":                                                "ERR Invalid argument",
	"ERR CONFIG SET failed (possibly related to argument '" + canary + "') - x":                                   "ERR CONFIG SET failed (possibly related to argument",
	"ERR script tried accessing undeclared key " + canary:                                                         "ERR script tried accessing",
	"ERR Error running script (call to f_0a1b): @user_script:3: " + canary:                                        "ERR Error running script (call to f_0a1b): @user_script:3",
	"ERR user_script:3: " + canary + " script: 0a1b, on @user_script:3.":                                          "ERR user_script:3",
	"ERR Error compiling script (new function): user_script:1: '=' expected near '" + canary + "'":                "ERR Error compiling script (new function): user_script:1",
	"ERR value “" + canary + "” is not valid":                                                                     "ERR value",
	// go-redis: internal/proto/reader.go
	fmt.Sprintf("redis: can't parse push notification: %q", canary):                                "redis: can't parse push notification",
	fmt.Sprintf("redis: can't parse push notification: expected digit or CRLF, got %q", canary[0]): "redis: can't parse push notification: expected digit or CRLF, got",
	fmt.Sprintf("redis: can't parse push notification name: %q", canary):                           "redis: can't parse push notification name",
	fmt.Sprintf("redis: invalid push notification name length %q: bad", canary):                    "redis: invalid push notification name length",
	fmt.Sprintf("redis: invalid reply: %q", canary):                                                "redis: invalid reply",
	fmt.Sprintf("redis: can't parse %.100q", canary):                                               "redis: can't parse",
	fmt.Sprintf("redis: can't parse bool reply: %q", canary):                                       "redis: can't parse bool reply",
	fmt.Sprintf("redis: can't parse bigInt reply: %q", canary):                                     "redis: can't parse bigInt reply",
	fmt.Sprintf("redis: can't parse verbatim string reply: %q", canary):                            "redis: can't parse",
	fmt.Sprintf("bigInt(%s) value out of range", canary):                                           rediserr.Text(errors.New("bigInt(1")),
	fmt.Sprintf("redis: can't parse int reply: %.100q", canary):                                    "redis: can't parse int reply",
	fmt.Sprintf("redis: can't parse uint reply: %.100q", canary):                                   "redis: can't parse uint reply",
	fmt.Sprintf("redis: can't parse float reply: %.100q", canary):                                  "redis: can't parse float reply",
	fmt.Sprintf("redis: can't parse reply=%.100q reading string", canary):                          "redis: can't parse",
	fmt.Sprintf("redis: can't parse reply=%.100q reading string into buffer", canary):              "redis: can't parse",
	fmt.Sprintf("redis: can't parse array/set/push reply: %.100q", canary):                         "redis: can't parse array/set/push reply",
	fmt.Sprintf("redis: can't parse map reply: %.100q", canary):                                    "redis: can't parse map reply",
	fmt.Sprintf("redis: can't read raw reply: %.100q", canary):                                     "redis: can't read raw reply",
	fmt.Sprintf("redis: ScanSlice index=%d value=%q failed: bad", 1, canary):                       "redis: ScanSlice index=1",
	// go-redis: command.go, redis.go, osscluster.go, pubsub.go, options
	fmt.Sprintf("redis: invalid map key %#v", canary):                                          "redis",
	fmt.Sprintf("redis: unexpected response %#v", []any{canary}):                               "redis",
	fmt.Sprintf("redis: unexpected client info data (%s)", canary):                             "redis",
	fmt.Sprintf("redis: function list unexpected key %s", canary):                              "redis: function list",
	fmt.Sprintf("redis: function stats unexpected key %s", canary):                             "redis",
	fmt.Sprintf("redis: function stats unexpected running_script key %s", canary):              "redis",
	fmt.Sprintf("redis: function stats unexpected %s engine map length", canary):               "redis",
	fmt.Sprintf("redis: unexpected key %q in CLUSTER LINKS reply", canary):                     "redis",
	fmt.Sprintf("redis: expected '*', but got line %q", canary):                                "redis: expected",
	fmt.Sprintf("redis: unexpected EXEC reply %q", canary):                                     "redis: unexpected",
	fmt.Sprintf("redis: connection unusable (reply stream desynchronized): panic: %v", canary): "redis: connection unusable (reply stream desynchronized)",
	fmt.Sprintf("redis: unsupported pubsub message: %q", canary):                               "redis: unsupported",
	fmt.Sprintf("redis: unsupported pubsub message: %#v", []any{canary}):                       "redis: unsupported",
	fmt.Sprintf("handler x failed for '%s': bad", canary):                                      "handler x failed for",
	fmt.Sprintf("redis: invalid URL path: %s", canary):                                         "redis",
	fmt.Sprintf("redis: unable to parse addr param: %s", canary):                               "redis: unable to parse",
	fmt.Sprintf("redis: unexpected option: %s", canary):                                        "redis",
	fmt.Sprintf("redis: failed to parse float %q: bad", canary):                                "redis: failed to parse float",
	// Go
	fmt.Sprintf("strconv.Atoi: parsing %q: invalid syntax", canary): "strconv.Atoi: parsing",
	fmt.Sprintf("parse %q: invalid port", "redis://u:"+canary+"@h"): "parse",
}

func TestTextQuotesNoData(t *testing.T) {
	t.Parallel()
	for text, kept := range quoting {
		err := rediserr.Wrap(fmt.Errorf("wrapped: %w", errors.New(text)))
		want := "wrapped: " + kept + " (rest of the text not shown)"
		if text[:3] == "big" {
			want = "wrapped (rest of the text not shown)"
		}
		require.EqualError(t, err, want, text)
		require.NotContains(t, err.Error(), "canary")
		require.Equal(t, err.Error(), rediserr.Text(err), "cut again")
	}
	require.NoError(t, rediserr.Wrap(nil))
	require.Empty(t, rediserr.Text(nil))
}

// Texts that quote no data stay whole, because an operator needs them.
func TestTextStaysWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"WRONGTYPE Operation against a key holding the wrong kind of value",
		"NOPERM this user has no permissions to run the 'client|setname' command",
		"NOPERM this user has no permissions to access one of the keys used as arguments",
		"NOAUTH Authentication required.",
		"WRONGPASS invalid username-password pair or user is disabled.",
		"READONLY You can't write against a read only replica.",
		"MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381",
		"CROSSSLOT Keys in request don't hash to the same slot",
		"LOADING Redis is loading the dataset in memory",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"ERR wrong number of arguments for 'get' command", "ERR invalid expire time in 'set' command",
		"ERR unknown command 'bf.add'", "ERR unknown command `INFO`", "ERR unsupported command 'hello'",
		"ERR Error running script (call to f_0a1b): @user_script:3: @user_script: 3: -OOM command not allowed when used memory > 'maxmemory'.",
		"ERR Error running script (call to f_0a1b): @user_script:3: @user_script: 3: WRONGTYPE Operation against a key",
		"ERR user_script:1: Unknown Redis command called from script",
		"EXECABORT Transaction discarded because of previous errors.",
		"dial tcp 127.0.0.1:1: connect: connection refused", "EOF", "context deadline exceeded",
		"redis: connection pool timeout", "redis: client is closed", "redis: cluster has no nodes",
		"redis: got 3 elements in the array, wanted 2", "redis: unexpected type=[]interface {} for Int64",
		"write tcp 127.0.0.1:1->127.0.0.1:2: invalid argument",
	} {
		err := errors.New(text)
		require.Equal(t, text, rediserr.Text(err))
		require.Same(t, err, rediserr.Wrap(err))
	}
}

// The digest and the line of a script tell an operator nothing.
func TestTextNamesNoScript(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"OOM command not allowed when used memory > 'maxmemory'.",
		"WRONGTYPE Operation against a key holding the wrong kind of value",
		"ERR user_script:1: Unknown Redis command called from script",
	} {
		require.EqualError(t, rediserr.Wrap(errors.New(text+" script: 0a1b, on @user_script:12.")), text)
	}
}

func TestWrapKeepsTheCause(t *testing.T) {
	t.Parallel()
	cause := fmt.Errorf("can't parse reply=%q: %w", canary, context.DeadlineExceeded)
	err := rediserr.Wrap(cause)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, fmt.Sprintf("%v %+v %s %q", err, err, err, err), "canary")
}

// In every format of go-redis that quotes an argument, the quotation is cut, or the argument is known to be harmless. A
// new release of go-redis with a new format fails here.
func TestEveryFormatOfGoRedis(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/redis/go-redis/v9").Output()
	require.NoError(t, err)
	dir := strings.TrimSpace(string(out))
	format := regexp.MustCompile(`(?:fmt\.Errorf|errors\.New)\(\s*("(?:[^"\\]|\\.)*")`)
	// Formats whose arguments are types, numbers, names in the client's own configuration, or other errors.
	harmless := []string{
		"redis: RESP3 map key must be a scalar type, got %T",
		"connection in unexpected state", "redis: %s value %d exceeds maximum", "redis: %s value %d is below minimum",
	}
	n := 0
	for _, name := range []string{
		"internal/proto/reader.go", "internal/proto/scan.go", "internal/proto/writer.go", "internal/util/convert.go",
		"error.go", "redis.go", "command.go", "osscluster.go", "tx.go", "pubsub.go", "push/errors.go",
	} {
		source, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for _, m := range format.FindAllStringSubmatch(string(source), -1) {
			text := strings.Trim(m[1], `"`)
			n++
			data := fill(text)
			if strings.Contains(data, "canary") && !slices.ContainsFunc(harmless, func(h string) bool { return strings.HasPrefix(text, h) }) {
				require.NotContains(t, rediserr.Text(errors.New(data)), "canary", "%s: %s", name, text)
			}
		}
	}
	require.Greater(t, n, 60)
}

// fill puts a canary where a format takes a string.
func fill(format string) string {
	verb := regexp.MustCompile(`%[-+#.0-9]*[a-zA-Z]`)
	return verb.ReplaceAllStringFunc(format, func(v string) string {
		switch v[len(v)-1] {
		case 's':
			return canary
		case 'q':
			return fmt.Sprintf("%q", canary)
		case 'v':
			if strings.Contains(v, "#") {
				return fmt.Sprintf("%#v", []any{canary})
			}
			return "another error"
		case 'w':
			return "another error"
		case 'T':
			return "[]interface {}"
		default:
			return "7"
		}
	})
}

// The errors of a real client about replies that do not parse quote no part of them.
func TestRepliesThatDoNotParse(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"?" + canary, ":" + canary, "*" + canary, "$" + canary, "%" + canary, ",x" + canary, "(" + canary, "#" + canary,
		"=5\r\n" + canary, "-ERR unknown command 'x', with args beginning with: '" + canary + "'",
	} {
		client := redis.NewClient(&redis.Options{Addr: redistest.Answering(t, func(string) string { return reply }), MaxRetries: -1, Protocol: 2, DisableIdentity: true})
		t.Cleanup(func() { _ = client.Close() })
		for _, cmd := range []redis.Cmder{
			redis.NewStringCmd(t.Context(), "get", "k"), redis.NewIntCmd(t.Context(), "unlink", "k"),
			redis.NewCmd(t.Context(), "eval"), redis.NewScanCmd(t.Context(), nil, "scan"), redis.NewBoolCmd(t.Context(), "x"),
			redis.NewStatusCmd(t.Context(), "set"), redis.NewFloatCmd(t.Context(), "x"), redis.NewSliceCmd(t.Context(), "x"),
			redis.NewMapStringStringCmd(t.Context(), "x"),
		} {
			err := client.Process(t.Context(), cmd)
			require.NotContains(t, rediserr.Text(err), "canary", "%T of %q", cmd, reply)
		}
	}
}

// FuzzTextOnlyShortens checks that the result is a prefix of the text, also when an error is wrapped twice.
func FuzzTextOnlyShortens(f *testing.F) {
	for text := range quoting {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := rediserr.Text(errors.New(text))
		twice := rediserr.Text(errors.New(once))
		for _, kept := range []string{once, twice} {
			if start := strings.TrimSuffix(kept, " (rest of the text not shown)"); !strings.HasPrefix(text, start) {
				t.Fatalf("%q becomes %q", text, kept)
			}
		}
	})
}

// panicking is an error whose text panics, as that of a nil pointer does.
type panicking struct{}

func (panicking) Error() string { panic("hunter2") }

// panickingReply is an error reply of the server whose text panics.
type panickingReply struct{ panicking }

func (panickingReply) RedisError() {}

func TestTextOfAnErrorThatPanics(t *testing.T) {
	t.Parallel()
	for _, err := range []error{panicking{}, panickingReply{}, fmt.Errorf("dial: %w", panicking{})} {
		require.Contains(t, rediserr.Text(err), "panicked")
		for _, text := range []string{rediserr.Text(err), rediserr.Wrap(err).Error(), fmt.Errorf("%w", rediserr.Wrap(err)).Error()} {
			require.NotContains(t, text, "hunter2")
		}
		require.ErrorIs(t, rediserr.Wrap(err), err)
		require.False(t, rediserr.LoginRefused(err) || rediserr.InvalidExpire(err) || rediserr.Temporary(err))
	}
	require.NotContains(t, rediserr.CutText(fmt.Sprintf("asynq: cannot retry: %v", panicking{})), "hunter2", "a text that asynq made")
}
