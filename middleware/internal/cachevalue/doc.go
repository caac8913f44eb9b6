// Package cachevalue decrypts cache values. It tries several encryption keys in order. It also recognizes values that sealcache did
// not seal: plaintext, and foreign formats such as Fernet tokens. Packages migrate and audit share it. Begin with [NewKeys]. Package
// box does the sealing itself.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
