package rediserr

import (
	"errors"
	"slices"
	"strings"

	"github.com/sealcache/sealcache/internal/errtext"
)

// reply returns the text of a server's error reply. go-redis also marks a missing key, "redis: nil", and a transaction
// that lost its WATCH as replies. They are not refusals.
func reply(err error) (text string, ok bool) {
	var r interface {
		error
		RedisError()
	}
	if !errors.As(err, &r) {
		return "", false
	}
	if text = errtext.Text(r); strings.HasPrefix(text, "redis: ") {
		return "", false
	}
	return text, true
}

// IsReply reports whether the server answered with an error. If not, err is nil, a missing key, or an error of the network,
// the client or the context.
func IsReply(err error) bool {
	_, ok := reply(err)
	return ok
}

// Code returns the first word of a server's error reply if it is a code such as WRONGTYPE, and "ERR" for a reply without
// one. For a script that failed on a command, on servers that report it as an ERR, it is the code of that command's error.
// It is empty if the server did not answer with an error.
func Code(err error) string {
	text, ok := reply(err)
	if !ok {
		return ""
	}
	if c := code(text); c != "" && c != "ERR" {
		return c
	}
	if i := scriptPosition(text); i >= 0 {
		if c := code(strings.TrimPrefix(text[i:], "-")); c != "" {
			return c
		}
	}
	return "ERR"
}

// code returns the first word of a text if it consists of capital letters, as Redis' codes do. The name of a command is no
// code: proxies answer "INFO is disabled".
func code(text string) string {
	word, _, _ := strings.Cut(text, " ")
	if len(word) < 3 || strings.ContainsFunc(word, func(r rune) bool { return r < 'A' || r > 'Z' }) || slices.Contains(commands(), word) {
		return ""
	}
	return word
}

// commands returns the names of commands that servers and proxies often refuse. No code has one of these names.
func commands() []string {
	return []string{
		"AUTH", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DISCARD", "EVAL", "EVALSHA", "EXEC", "GETRANGE", "HELLO", "INFO", "MEMORY",
		"MULTI", "OBJECT", "PING", "SCAN", "SCRIPT", "SELECT", "SREM", "UNLINK", "UNWATCH", "WAIT", "WATCH",
	}
}

// notOffered returns parts of replies with which servers, managed services and proxies always refuse a command. They
// are in lower case.
func notOffered() []string {
	return []string{
		"unknown command", "unknown subcommand", "unknown redis command", // Redis and its imitators, renamed commands
		"unsupport", "not supported", "not support ", "no support", "doesn't support", "does not support", // Envoy, miniredis, Alibaba
		"not allowed", "isn't allowed", // Codis, Redis Enterprise, commands in scripts, DEBUG and MODULE
		"not available", "unavailable command", // Upstash
		"not implemented", "unimplemented", "not enabled", "disabled", "not permitted", "forbid", // predixy and others
		"unrecognized command", "invalid command", "illegal command", "no such command", "bad command",
		"can't run this command", "no permission", "permission denied", // ACLs within scripts, other services
	}
}

// NotOffered reports whether the server refused a command because it does not offer it. The server does not know the
// command, a proxy or a managed service bars it, or an ACL denies it to this user. A refused key or channel, a full or
// loading server and a failed login are other refusals. A proxy that closes the connection instead of answering is not
// recognized.
//
// Callers that can do without the command use [Unavailable] instead, because NotOffered cannot know every wording.
func NotOffered(err error) bool {
	text, ok := reply(err)
	if !ok || LoginRefused(err) {
		return false
	}
	text = strings.ToLower(text)
	switch Code(err) {
	case "NOPERM":
		return !strings.Contains(text, "access ") && !strings.Contains(text, " key")
	case "ERR":
		said := text[:strings.IndexAny(text+"'", "'\"`")] // the rest may quote the name of a key
		return !strings.Contains(text, cannotAccess) && !strings.Contains(said, "upstream") &&
			slices.ContainsFunc(notOffered(), func(part string) bool { return strings.Contains(text, part) })
	default:
		return false
	}
}

// Unavailable reports whether the server refuses an optional command, such as INFO, MULTI or OBJECT ENCODING, in any
// wording. Only replies with the codes ERR and NOPERM count, and not those about the login, about a user's permission for a
// key, and about a server behind a proxy. The caller then does without the command.
//
// One answer proves nothing: a proxy that limits the rate of calls also says ERR. So the caller must not conclude from the
// refusal that all is well. To a caller that has got an answer to the command before, a later refusal is an error.
func Unavailable(err error) bool {
	if !RefusedForGood(err) || LoginRefused(err) {
		return false
	}
	switch Code(err) {
	case "NOPERM":
		return NotOffered(err)
	case "ERR":
		if NotOffered(err) { // such a reply may quote a key's name that contains "timeout"
			return true
		}
		text, _ := reply(err)
		text = strings.ToLower(text)
		return !slices.ContainsFunc([]string{cannotAccess, "upstream", "timed out", "timeout"},
			func(part string) bool { return strings.Contains(text, part) })
	default:
		return false
	}
}

// cannotAccess is a part of the reply of a script to a user without permission for a key.
const cannotAccess = "can't access"

// Denied reports whether the server refuses a request for good, in words that leave no doubt. An ACL denies the command or
// one of its keys, or the server does not offer the command. Replies of unknown meaning, such as a proxy's "ERR 42", do not
// count. Callers that tell an operator about permissions, or that give up for as long as the process runs, use it.
func Denied(err error) bool { return Code(err) == "NOPERM" || NotOffered(err) }

// RefusedForGood reports whether the server answered with an error that the same request would get again. All replies
// count, in any wording, except those of [Temporary]. So a wrong type, an unknown command, a missing login and a proxy's
// "ERR 42" count. A loading, full, busy or replicating server does not count. Errors of the network do not count either.
// [Unavailable] is the narrower function for optional commands.
func RefusedForGood(err error) bool { return IsReply(err) && !Temporary(err) }

// RefusedForNow reports whether the server did not run a command and may run it soon, as during a failover. The command can
// be sent again, even if it must not run twice.
func RefusedForNow(err error) bool {
	switch Code(err) {
	case "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS":
		return true
	default:
		return false
	}
}

// Temporary reports whether the server's refusal may end by itself. A part of a script may have run, so repeat
// only commands that may run twice.
func Temporary(err error) bool {
	switch Code(err) {
	case "BUSY", "MOVED", "ASK", "OOM", "UNBLOCKED", "MISCONF":
		return true
	case "ERR":
		text, _ := reply(err)
		return strings.Contains(text, "max number of clients reached")
	default:
		return RefusedForNow(err)
	}
}

// NoNumber reports whether a script failed because it calculated with a local variable that was not a number. The variable
// may hold the answer for a missing key.
func NoNumber(err error, variable string) bool {
	text, _ := reply(err)
	return strings.Contains(text, "attempt to perform arithmetic on local '"+variable+"'")
}
