// Package rediscmd contains functions for Redis commands that several packages of this module use:
//
//   - [Pattern] turns a prefix into the pattern of a SCAN command.
//   - [ClusterNode] reports whether a server is a node of a Redis Cluster.
//   - [CheckType] checks the name of a Redis type, such as hash.
//   - [TimeLeft] converts the answer of PTTL to a time.Duration.
//   - [Script] makes the EVAL and EVALSHA commands that run a Lua script.
//   - [Exec] sends a pipeline, and [Once] marks a command that must not be sent twice.
package rediscmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Pattern returns a pattern for SCAN that matches the names that start with prefix, taken literally.
func Pattern(prefix string) string {
	var b strings.Builder
	b.Grow(len(prefix) + 1)
	for i := range len(prefix) { // by bytes, because a key need not be UTF-8
		if strings.IndexByte(`*?[]\`, prefix[i]) >= 0 { // util.c, stringmatchlen
			b.WriteByte('\\')
		}
		b.WriteByte(prefix[i])
	}
	b.WriteByte('*')
	return b.String()
}

// InfoField returns the value of a field in a reply of INFO, such as "run_id", and "" if the reply does not have it.
func InfoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimRight(value, "\r\n")
		}
	}
	return ""
}

// Sentinel reports whether a server is a Sentinel, which answers PING and stores nothing. info is its reply of INFO.
func Sentinel(info string) bool {
	return InfoField(info, "redis_mode") == "sentinel" || InfoField(info, "server_mode") == "sentinel"
}

// ClusterNode reports whether a server is a node of a Cluster. info is its reply of INFO, or empty if the server refused INFO.
// If info does not show the mode, ClusterNode asks CLUSTER INFO. A server that refuses this command too has no Cluster, or
// hides it.
func ClusterNode(ctx context.Context, node redis.Cmdable, info string) bool {
	mode, valkeyMode, enabled := InfoField(info, "redis_mode"), InfoField(info, "server_mode"), InfoField(info, "cluster_enabled")
	if mode == "cluster" || valkeyMode == "cluster" || enabled == "1" {
		return true
	}
	if mode != "" || valkeyMode != "" || enabled != "" {
		return false
	}
	state, err := node.ClusterInfo(ctx).Result()
	return err == nil && strings.Contains(state, "cluster_state:")
}

// CheckType returns an error unless an entry that is not a string can have the type t. Modules and other servers add
// types. An error quotes at most 32 characters, because t may be another setting by mistake.
func CheckType(t string) error {
	switch {
	case t == "string":
		return errors.New("the Redis type \"string\" cannot be ignored, because cache entries are strings")
	case len(t) == moduleTypeBytes, strings.Contains(t, "-"), slices.Contains(knownTypes(), t):
		return nil
	default:
		return fmt.Errorf("%.32q is not a type of Redis (give the answer of the Redis command TYPE, such as hash or ReJSON-RL)", t)
	}
}

// moduleTypeBytes is the length of the name of a module's type, such as ReJSON-RL and vectorset (module.c,
// moduleTypeEncodeId).
const moduleTypeBytes = 9

// knownTypes returns answers of TYPE that are not names of a module's type.
func knownTypes() []string {
	return []string{
		"hash", "list", "set", "zset", "stream",
		"bitmap", "hyperloglog", "timeseries", // Kvrocks
		"cron", "nestedhash", // KeyDB
	}
}
