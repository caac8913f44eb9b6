// Package rediserr interprets the errors of a Redis client. All packages of this module that use Redis share it.
//
// Call [Wrap] before you return an error. Wrap removes the parts of the text that may contain a value, a key name or a
// password. [NotOffered] reports whether the server does not know a command, or forbids it. [Denied] adds keys that an ACL
// denies. [Temporary] reports whether a retry can help, and [RefusedForGood] whether it cannot.
//
// The package imports no Redis client. It recognizes replies of the server by the method RedisError, which errors of
// go-redis have.
package rediserr
