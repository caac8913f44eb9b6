// Package cachevalue opens stored cache values under several keys, and recognizes forms of plaintext such as Fernet tokens.
// Packages migrate and audit share it. Begin with [NewKeys]. The sealing itself is in package box.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
