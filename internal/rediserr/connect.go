package rediserr

import (
	"slices"
	"strings"

	"github.com/sealcache/sealcache/internal/errtext"
)

// The functions of this file classify the error of the first command on a connection. Clients wrap some of these replies
// only as text, so the functions look at texts that are not marked as replies, too.

// LoginRefused reports whether Redis refused the user or the password. Redis has a code only for some of these replies. A
// reply may quote arguments, so only its start counts.
func LoginRefused(err error) bool {
	switch Code(err) {
	case "":
		return err != nil && (strings.Contains(errtext.Text(err), "NOAUTH ") || strings.Contains(errtext.Text(err), "WRONGPASS ")) ||
			says(err, "auth failed", "unauthenticated", "without any password configured", "invalid password", "but no password is set")
	case "NOAUTH", "WRONGPASS":
		return true
	case "ERR":
		text, _ := reply(err)
		text = strings.TrimPrefix(strings.ToLower(text), "err ")
		return slices.ContainsFunc([]string{
			"noauth", "wrongpass", // after the "ERR" of a proxy
			"auth failed", "unauthenticated", "auth <password> called without any password configured",
			"invalid password", "client sent auth, but no", // Redis 5
		}, func(start string) bool { return strings.HasPrefix(text, start) })
	default:
		return false
	}
}

// DatabaseRefused reports whether Redis does not have the database. Redis has no code for it.
func DatabaseRefused(err error) bool { return says(err, "db index", "select is not allowed") }

// NoCluster reports whether the server says that it is not a node of a Cluster. Redis has no code for it.
func NoCluster(err error) bool {
	return Code(err) == "ERR" && says(err, "cluster support disabled", "cluster is disabled")
}

// Protected reports whether the server refused the connection because it is in protected mode.
func Protected(err error) bool { return Code(err) == "DENIED" }

// NotRedis reports whether the client could not parse the answer. go-redis has no type for this error.
func NotRedis(err error) bool { return says(err, "redis: can't parse", "redis: invalid reply") }

// InvalidExpire reports whether Redis refused the expiry of a SET command.
func InvalidExpire(err error) bool { return says(err, "invalid expire") }

// says reports whether the text of an error contains one of these parts, which are in lower case.
func says(err error, parts ...string) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(errtext.Text(err))
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
