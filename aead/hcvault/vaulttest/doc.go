// Package vaulttest tests hcvault against the real transit engine of Vault, in process. It is a module of its own, because
// Vault's module graph must not become that of hcvault's users.
package vaulttest
