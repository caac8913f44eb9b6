// Package rediserr classifies the errors of a Redis client, and removes secrets from their texts. All packages of this
// module that use Redis call it.
//
// Call [Wrap] before you return an error. Wrap removes the parts of the text that may contain a value, a key name or a
// password. These functions classify an error:
//
//   - [NotOffered] reports whether the server does not know a command, or does not allow it to this user.
//   - [Denied] reports whether the server will never run the command for this user: it does not offer the command, or
//     it denies the command or a key.
//   - [Temporary] reports whether the same command may succeed later.
//   - [RefusedForGood] reports whether the server replied with an error that it would return again.
//
// The package imports no Redis client. It recognizes replies of the server by the method RedisError, which errors of
// go-redis have.
package rediserr
