package middleware

import (
	"encoding/binary"
	"testing"

	"github.com/sealcache/sealcache/middleware/internal/plaintext"
)

func FuzzMsgPackForm(f *testing.F) {
	f.Add([]byte{0x81, 0xa3, 'I', 'D', 's', 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x92, 0xc7, 1, 2, 3, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(binary.BigEndian.AppendUint32([]byte{0xdf}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plaintext.CheckMsgPack(b) != nil {
			return
		}
		_, _ = decode(MsgPack[any](), b) // must not end the process
	})
}
