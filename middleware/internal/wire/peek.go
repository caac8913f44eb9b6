package wire

// Ciphertext is the former form of Key, for package migrate.
type Ciphertext struct {
	Envelope     bool
	WrappedBytes int
	DataKey      string
	HasKeyID     bool
	KeyID        uint32
	Passphrase   string
}

// Peek is KeyOf in the former form.
func Peek(ct []byte) Ciphertext {
	k := KeyOf(ct)
	return Ciphertext{
		Envelope: k.Envelope(), WrappedBytes: len(k.Wrapped), DataKey: k.DataKey(),
		HasKeyID: k.HasID, KeyID: k.ID, Passphrase: k.Passphrase(),
	}
}
