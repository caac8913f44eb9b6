// Package rediserr reads the errors of a Redis client: it cuts what may quote data, and says what kind of refusal a reply is.
//
// Every package that talks to Redis uses it, so that all of them cut the same texts and understand the same refusals. Start
// with [Wrap] for an error that a caller will see, and with [NotOffered] for an optional command. The package imports no
// client: it recognizes a server's reply by the method RedisError of go-redis' errors.
package rediserr
