// Package cachevalue decrypts stored cache values with the first of several encryption keys that opens them. It also
// recognizes values that sealcache did not seal: plaintext, and foreign formats such as Fernet tokens. Packages migrate and
// audit share it. Begin with [NewKeys]. The sealing itself is in package box.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
