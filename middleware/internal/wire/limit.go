package wire

import (
	"fmt"
	"math"
)

// maxLimit leaves room in an int for what sealing and padding add to a value.
const maxLimit = math.MaxInt / 2

// CheckLimit returns an error unless n can bound the size of a value in bytes.
func CheckLimit(n int) error {
	if n < 1 || n > maxLimit {
		return fmt.Errorf("the size limit for a value is %d bytes, but must be from 1 through %d", n, maxLimit)
	}
	return nil
}
