// Package rediserr reads the errors of a Redis client. It cuts the parts that may quote data, and classifies refusals.
//
// Every package that uses Redis uses it, so that all of them cut the same texts and understand the same refusals. Start
// with [Wrap] for an error that a caller will see, and with [NotOffered] for an optional command. The package imports
// no client: it recognizes a server's reply by the method RedisError of go-redis' errors.
package rediserr
