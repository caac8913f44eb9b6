// Package vaulttest contains only tests. They run package hcvault against the real encryption engine of HashiCorp
// Vault, a key service:
//
//	cd aead/hcvault/vaulttest && go test ./...
//
// The engine (transit) runs inside the test process, so no Vault server is needed. Some tests need the program
// redis-server in the PATH. The package is a separate Go module, so that users of hcvault do not get the dependencies of
// Vault.
package vaulttest
