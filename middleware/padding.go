package middleware

// WithPadding pads values before they are sealed, so that the length of a sealed
// value shows less of the length of its plaintext. Readers need no option.
//
// The padded lengths are those of Padmé (Nikitin and others, "Reducing Metadata
// Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019). Padding
// adds at most 12 percent and one byte. The length of a value of up to M bytes
// shows O(log log M) bits. There are 16 padded lengths from 1 to 2 KiB, and 300 up
// to 1 MiB. Values below 8 bytes are not padded: "yes" and "no" still differ in
// length.
//
// A value is compressed before it is padded. Sealed key names and tags are padded
// together with the value.
func WithPadding() Option {
	return func(c *config) error {
		c.padding = true
		return nil
	}
}
