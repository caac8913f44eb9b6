// Package cachevalue decrypts (opens) cache values for packages migrate and audit. Begin with [NewKeys], which takes
// several encryption keys. [Keys.Open] tries these keys in order.
//
// [FormOf] classifies values that sealcache did not encrypt. For example, it recognizes tokens of Fernet, an encryption
// format that the predecessor of sealcache used.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
