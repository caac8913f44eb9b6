// Package cachevalue decrypts cache values for packages migrate and audit. Begin with [NewKeys].
//
// It tries several encryption keys in order. It also recognizes values that are not sealed, and Fernet tokens, which the
// predecessor of sealcache wrote.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
