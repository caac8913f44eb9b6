package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// A page that refers to another host, or has no scripts, is refused.
func TestPageOfAnotherRelease(t *testing.T) {
	t.Parallel()
	serve := func(html string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(html)) })
	}
	const good = `<head></head><div id="root"></div><script>1</script>`
	_, err := newPage("", serve(good))
	require.NoError(t, err)
	_, err = newPage("", serve(`<head><link rel="stylesheet" href="https://fonts.googleapis.com/css?x"/></head><div id="root"></div><script>1</script>`))
	require.NoError(t, err, "the links that are known are removed")
	for _, html := range []string{
		`<head><script src="https://cdn.example/x.js"></script></head><script>1</script>`,
		`<head><link href='//cdn.example/x.css'></head><script>1</script>`,
		`<head><link href=HTTPS://cdn.example/x.css></head><script>1</script>`,
		`<head></head>`,
		`<script>1</script>`,
		`<head></head><script>1</script>`,
		strings.Repeat(" ", maxIndexBytes) + good,
	} {
		_, err := newPage("", serve(html))
		require.Error(t, err, "%.80s", html)
	}
	_, err = newPage("", http.NotFoundHandler())
	require.Error(t, err)
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	c := newCapture(4)
	n, err := c.Write([]byte("12345"))
	assert.Equal(t, 5, n)
	require.NoError(t, err)
	assert.True(t, c.over)
	assert.Zero(t, c.body.Len())
	assert.Equal(t, http.StatusOK, c.code())
	c = newCapture(4)
	c.WriteHeader(http.StatusTeapot)
	c.WriteHeader(http.StatusOK)
	assert.Equal(t, http.StatusTeapot, c.code())
}

func TestBounded(t *testing.T) {
	t.Parallel()
	r := &http.Request{URL: &url.URL{RawQuery: "size=7&page=2&other=x&size=9"}}
	assert.Equal(t, "page=2&size=7", bounded(t.Context(), r).URL.RawQuery)
	assert.Equal(t, "size=7&page=2&other=x&size=9", r.URL.RawQuery, "the application's request is not changed")
}

// The page calls a value refused only if its key was asked.
func TestReasonsWhyAValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	disabled := &aead.KeyError{KeyID: 7, Status: keyset.Disabled}
	for _, c := range []struct {
		err  error
		want string
	}{
		{jobs.ErrUnauthentic, "[not opened: altered, moved, or sealed under another key]"},
		{jobs.ErrUnknownKey, "[not opened: sealed under a key that is not in the keyset]"},
		{disabled, "[not opened: its key is disabled or destroyed]"},
		{jobs.ErrUnsupportedFormat, "[not opened: unknown format, or cut off]"},
		{jobs.ErrTooLarge, tooLarge},
		{jobs.ErrTooManyDataKeys, "[not opened]"},
		{broken, "[not opened]"},
		{context.Canceled, "[not opened: the key service does not answer]"},
		{jobs.ErrKeyServiceUnavailable, "[not opened: the key service does not answer]"},
		{errors.Join(jobs.ErrUnauthentic, jobs.ErrKeyServiceUnavailable), "[not opened: the key service does not answer]"},
		{fmt.Errorf("%w: %w", jobs.ErrUnauthentic, broken), "[not opened: the key service does not answer]"},
		{fmt.Errorf("%w: %w", jobs.ErrUnknownKey, broken), "[not opened: the key service does not answer]"},
		{fmt.Errorf("%w: %w", disabled, broken), "[not opened: the key service does not answer]"},
		{fmt.Errorf("%w: %w", disabled, context.DeadlineExceeded), "[not opened: the key service does not answer]"},
	} {
		assert.Equal(t, c.want, why(c.err), "%v", c.err)
	}
}
