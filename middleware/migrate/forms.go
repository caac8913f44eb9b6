package migrate

import "strconv"

// form is what a clear value may be besides the value of a cache, as far as its bytes tell.
type form byte

const (
	plain form = iota
	number
	fernet
	hyperLogLog
)

func formOf(b []byte) form {
	switch {
	case isNumber(b):
		return number
	case isHyperLogLog(b, int64(len(b))):
		return hyperLogLog
	case isFernet(b):
		return fernet
	default:
		return plain
	}
}

// isNumber tells whether b is a whole number in the one form that INCR accepts and leaves behind: decimal, of 64 bits,
// with no sign but a minus and no zeros before it (util.c, string2ll).
func isNumber(b []byte) bool {
	const longest = len("-9223372036854775808")
	if len(b) == 0 || len(b) > longest || b[len(b)-1] < '0' || b[len(b)-1] > '9' {
		return false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == string(b)
}

// isHyperLogLog tells whether a value of n bytes that begins with b is what PFADD accepts: "HYLL", an encoding of 0 or 1,
// a header of 16 bytes, and if it is dense, 16,384 registers of 6 bits and a byte more (hyperloglog.c, isHLLObjectOrReply).
func isHyperLogLog(b []byte, n int64) bool {
	const header, dense = 16, 16 + (16384*6+7)/8
	return len(b) >= header && string(b[:4]) == "HYLL" && (b[4] == 0 && n == dense || b[4] == 1)
}
