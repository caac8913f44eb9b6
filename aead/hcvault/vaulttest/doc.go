// Package vaulttest tests package hcvault against the real transit engine of Vault, which runs inside the test process.
// The transit engine is the part of Vault that encrypts. Package vaulttest is a separate module, so that users of hcvault
// do not get Vault's dependencies.
package vaulttest
