// Package vaulttest tests hcvault against the real transit engine of Vault, in process. It is a separate module,
// because Vault's module graph must not become that of hcvault's users.
package vaulttest
