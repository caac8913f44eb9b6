// Package cachevalue opens stored cache values under several keys, and recognizes forms of plaintext. Packages migrate and
// audit share it. Sealing itself is package box.
package cachevalue

// MaxBytes bounds a decompressed value: Redis' own bound on a value.
const MaxBytes = 512 << 20
