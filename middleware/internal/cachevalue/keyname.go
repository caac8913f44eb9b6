package cachevalue

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// KeyName is what a ciphertext says about its key.
type KeyName struct {
	Envelope bool   // the key wraps the data key
	Named    bool   // ID is known
	ID       uint32 // of a key of a Tink keyset
	Label    string // for other keys
}

// KeyOf returns the name of the key of a ciphertext.
func KeyOf(ct []byte) KeyName {
	c := wire.Peek(ct)
	k := KeyName{Envelope: c.Envelope, Named: c.HasKeyID, ID: c.KeyID}
	if k.Named || !c.Envelope {
		return k
	}
	wrapped := ct[4 : 4+c.WrappedBytes]
	if version, ok := vaultVersion(wrapped); ok {
		k.Label = vaultLabel + version
		return k
	}
	if c.Passphrase != "" {
		k.Label = "KEK passphrase " + c.Passphrase
		return k
	}
	k.Label = "data key " + c.DataKey
	return k
}

const vaultLabel = "KEK vault:"

// IsVault reports whether the key is a version of a key in Vault.
func (k KeyName) IsVault() bool { return strings.HasPrefix(k.Label, vaultLabel) }

// vaultVersion finds the version in "vault:v3:...", as Vault's transit engine writes it.
func vaultVersion(wrapped []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(wrapped, []byte("vault:v"))
	digits, _, ok2 := bytes.Cut(rest, []byte(":"))
	if !ok || !ok2 || len(digits) == 0 || len(digits) > 9 || len(bytes.Trim(digits, "0123456789")) > 0 {
		return "", false
	}
	return "v" + string(digits), true
}

// String returns the name for reports.
func (k KeyName) String() string {
	switch {
	case k.Named && k.Envelope:
		return fmt.Sprintf("KEK key %d", k.ID)
	case k.Named:
		return fmt.Sprintf("key %d", k.ID)
	case k.Label == "":
		return "unnamed"
	default:
		return k.Label
	}
}
