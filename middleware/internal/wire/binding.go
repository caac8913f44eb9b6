package wire

import "encoding/binary"

// Domain starts all associated data of version 1. It separates them from other uses
// of the same keys.
const Domain = "sealcache.v1"

// AppendContext appends the part of the associated data that all values of one kind
// in one namespace share. It is the domain, the kind, and the namespace with its
// length.
//
// Associated data is AppendContext, then AppendName for each name of the kind, then
// the header's bytes. A cache value has one name, its key. A job has three: type,
// queue and id, empty if not bound. The kind fixes the number of names, each name
// follows its length, and a header has at most MaxHeaderSize bytes. So two
// different contexts never encode alike.
func AppendContext(dst []byte, k Kind, namespace string) []byte {
	dst = append(dst, Domain...)
	dst = append(dst, byte(k))
	return AppendName(dst, namespace)
}

// AppendName appends one name with its length, 4 bytes big endian.
func AppendName(dst []byte, name string) []byte {
	// MaxNameBytes keeps the length within four bytes.
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(name)))
	return append(dst, name...)
}

// MaxNameBytes bounds the length of a name. It is Redis' bound on a key.
const MaxNameBytes = 512 << 20
