package gocloud

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A redirect does not carry a data key to another host, and an answer without end does not fill the memory.
func TestHTTPClientOfAzure(t *testing.T) {
	t.Parallel()
	defer azureHTTP.CloseIdleConnections()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other host got a request: %s", r.Method)
	}))
	defer other.Close()
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, strings.Repeat("A", 8<<20)) // the client has gone
	}))
	defer vault.Close()
	answer, err := azureHTTP.Post(vault.URL, "application/json", strings.NewReader("data key"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err == nil || answer.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("status %d, %d bytes, %v", answer.StatusCode, len(b), err)
	}
}
