// Package vaulttest tests hcvault against the real transit engine of Vault, in process. It is a separate module,
// so that users of hcvault do not get Vault's dependencies.
package vaulttest
