// Package rediserr classifies the errors of a Redis client, and removes secrets from their texts. All packages of this
// module that use Redis call it.
//
// Call [Wrap] before you return an error. Wrap removes the parts of the text that may contain a value, a key name or a
// password.
//
// If the server replied with an error, exactly one of [Temporary] and [RefusedForGood] returns true:
//
//   - Temporary: the same command may succeed later. Example: "LOADING Redis is loading the dataset in memory".
//   - RefusedForGood: the server will probably give the same reply to the same command again. Example: "WRONGTYPE Operation
//     against a key holding the wrong kind of value". RefusedForGood also returns true for replies that this package does
//     not know, such as "ERR 42".
//
// Three functions find a reason for which RefusedForGood returns true:
//
//   - [NotOffered] returns true if the command fails for all keys. The server does not have the command, or the user has
//     no permission for the command. Example: "ERR unknown command 'INFO'".
//
//   - [Denied] returns true in two cases: NotOffered returns true, or the user has no permission for one of the keys.
//     Example: "NOPERM No permissions to access a key".
//
//   - [Unavailable] returns true in two cases: NotOffered returns true, or the reply has the code ERR and this package does
//     not know it. A caller uses Unavailable for an optional command, to continue without the command. An unknown reply can
//     have another cause, such as a limit of calls. So the caller must not conclude that the server never runs the command.
//
// If there is no reply, as after a broken connection, these five functions return false.
//
// [LoginRefused], [DatabaseRefused], [NoCluster], [Protected] and [NotRedis] explain why the first command on a connection
// failed.
//
// The package imports no Redis client. It recognizes an error reply of the server by the method RedisError, which errors of
// go-redis have.
package rediserr
