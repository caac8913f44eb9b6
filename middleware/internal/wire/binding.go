package wire

import "encoding/binary"

// Domain starts all associated data of version 1. It keeps it apart from the
// associated data of anything else that may use the same keys.
const Domain = "sealcache.v1"

// AppendContext appends the part of the associated data that is the same for
// all values of one kind in one namespace: domain, kind, and the namespace with
// its length.
//
// Associated data is AppendContext, then AppendName for each name that the kind
// has (one for a cache value: its key; three for a job: type, queue, id, with
// those not bound empty), then the header's bytes. The kind fixes the number of
// names, each has its length before it, and a header is never longer than
// MaxHeaderSize, so two different contexts never encode alike.
func AppendContext(dst []byte, k Kind, namespace string) []byte {
	dst = append(dst, Domain...)
	dst = append(dst, byte(k))
	return AppendName(dst, namespace)
}

// AppendName appends one name with its length, 4 bytes big endian.
func AppendName(dst []byte, name string) []byte {
	// A Go string on a 64-bit platform may be longer than 2^32-1 bytes in
	// theory; Redis refuses keys over 512 MiB and so does MaxNameBytes.
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(name)))
	return append(dst, name...)
}

// MaxNameBytes bounds the length of a name, so that its length always fits the
// four bytes of AppendName. It is Redis' bound on a key.
const MaxNameBytes = 512 << 20
