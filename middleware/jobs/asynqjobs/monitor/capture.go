package monitor

import (
	"bytes"
	"net/http"
)

// capture records an answer of asynqmon, up to a limit.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
	limit  int
	over   bool
}

func newCapture(limit int) *capture {
	return &capture{header: http.Header{}, limit: limit}
}

func (c *capture) Header() http.Header { return c.header }

func (c *capture) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

// Write drops bytes over the limit. Such an answer is not used.
func (c *capture) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.body.Len()+len(b) > c.limit {
		c.over = true
		return len(b), nil
	}
	return c.body.Write(b)
}

func (c *capture) code() int {
	if c.status == 0 {
		return http.StatusOK
	}
	return c.status
}
