// Package cachevalue decrypts (opens) cache values for packages migrate and audit. Begin with [NewKeys].
//
// It tries several encryption keys in order. It also recognizes values that are not encrypted, and tokens of Fernet, an
// encryption format that the predecessor of sealcache used.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
