package rediscmd

import (
	"context"
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // Redis names a script by its SHA-1
	"encoding/hex"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// Script is Lua that a node knows by its digest after the first call. Every key that a script uses must be declared, as
// Cluster, ACLs and compatible servers require.
type Script struct {
	Source string
	Digest string // SHA-1 in hexadecimal digits
}

// NewScript returns the script with this source. The digest is SHA-1, as Redis prescribes. It protects nothing here, so
// that FIPS-only mode, which forbids SHA-1, does not apply.
func NewScript(source string) Script {
	var sum [sha1.Size]byte
	fips140.WithoutEnforcement(func() { sum = sha1.Sum([]byte(source)) }) //nolint:gosec // Redis names a script by its SHA-1
	return Script{source, hex.EncodeToString(sum[:])}
}

// ByDigest returns the command that calls the script by its digest. UnknownScript recognizes the error of a node that does not
// know the script.
func (s Script) ByDigest(ctx context.Context, keys []string, args ...any) *redis.Cmd {
	return s.command(ctx, "evalsha", s.Digest, keys, args)
}

// BySource returns the command that calls the script with its source. The node then knows the script.
func (s Script) BySource(ctx context.Context, keys []string, args ...any) *redis.Cmd {
	return s.command(ctx, "eval", s.Source, keys, args)
}

func (s Script) command(ctx context.Context, name, body string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, body, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	if len(keys) > 0 {
		cmd.SetFirstKeyPos(3)
	}
	return cmd
}

// UnknownScript reports whether a node did not know the script of a command of ByDigest.
func UnknownScript(err error) bool { return rediserr.Code(err) == "NOSCRIPT" }

// ErrUnknownScript is for a hook or client that answers in place of a node. go-redis then sends the source of the script.
var ErrUnknownScript error = unknownScript{}

type unknownScript struct{}

func (unknownScript) Error() string { return "NOSCRIPT No matching script. Please use EVAL." }
func (unknownScript) RedisError()   {}
