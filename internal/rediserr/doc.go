// Package rediserr reads the errors of a Redis client. It removes the parts of an error text that may contain data. It also reports
// whether the server refused a command, and why.
//
// All packages that use Redis share this package, so that they treat errors alike. Use [Wrap] before you return an error. Use
// [NotOffered] to detect a server that does not offer a command. The package imports no client: it recognizes a server's reply by
// the method RedisError of go-redis' errors.
package rediserr
