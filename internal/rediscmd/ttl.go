package rediscmd

import (
	"math"
	"time"
)

// TimeLeft returns the answer of PTTL as a Duration, which is 0 only for an entry without an expiry (-1) and for none (-2). Redis
// stores expiries of more than 292 years, which a Duration cannot hold. For these it returns the largest Duration in whole
// milliseconds, which a store accepts for Set.
func TimeLeft(pttl int64) time.Duration {
	if pttl < 0 {
		return 0
	}
	const longest = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(pttl, 1), longest)) * time.Millisecond
}
