package keyservice

import (
	"net/http"

	"github.com/sealcache/sealcache/aead"
)

// maxAnswer bounds the body of an answer. The largest is a keyset in base64.
const maxAnswer = 4 * aead.MaxKeysetBytes

// Limit returns a transport that ends a longer answer with an error. The clients of the services read it into memory.
func Limit(t http.RoundTripper) http.RoundTripper { return limited{t} }

// HTTPClient returns a client with Limit that follows no redirect. A redirect would carry a data key to another host.
func HTTPClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     Limit(t),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// CloseIdleConnections is called by the method of http.Client with this name.
func (l limited) CloseIdleConnections() {
	(&http.Client{Transport: l.RoundTripper}).CloseIdleConnections()
}
