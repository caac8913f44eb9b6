// Package cachevalue knows cache values as they are stored: it seals and opens them outside of a middleware.Store, names
// the key of a sealed value, and recognizes forms of plaintext. Packages migrate and audit share it.
package cachevalue
