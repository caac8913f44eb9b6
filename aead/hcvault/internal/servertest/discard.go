package servertest

import (
	"io"
	"log"
)

// discard is a logger for handshakes that a test makes fail.
func discard() *log.Logger { return log.New(io.Discard, "", 0) }
