// Package redistext returns the text that go-redis sends for a string, number, bool, time or duration: call [Of]. It
// imports only the standard library, so that packages without a Redis client can use it.
package redistext

import (
	"strconv"
	"time"
)

// Of returns the text that go-redis sends for a string, number, bool, [time.Time] or [time.Duration]. For every other type,
// including named types, ok is false. See internal/proto/writer.go of go-redis, WriteArg.
func Of(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int:
		return strconv.Itoa(v), true
	case int8:
		return strconv.FormatInt(int64(v), 10), true
	case int16:
		return strconv.FormatInt(int64(v), 10), true
	case int32:
		return strconv.FormatInt(int64(v), 10), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint:
		return strconv.FormatUint(uint64(v), 10), true
	case uint8:
		return strconv.FormatUint(uint64(v), 10), true
	case uint16:
		return strconv.FormatUint(uint64(v), 10), true
	case uint32:
		return strconv.FormatUint(uint64(v), 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case uintptr:
		return strconv.FormatUint(uint64(v), 10), true
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 64), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case time.Time:
		return v.Format(time.RFC3339Nano), true
	case time.Duration:
		return strconv.FormatInt(v.Nanoseconds(), 10), true
	}
	return "", false
}
