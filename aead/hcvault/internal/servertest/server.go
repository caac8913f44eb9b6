// Package servertest imitates the HTTP interface of HashiCorp Vault, a key service. So the tests of package hcvault run
// without Vault.
//
// [New] starts a server. It supports tokens, logins, namespaces and TLS, and a test can make requests fail. The server
// itself does not encrypt or decrypt. It passes such requests to an [Engine], a function of the test.
package servertest

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Engine answers a request below the mount "transit". path is relative to the mount. A status of zero is 200.
type Engine func(path string, body map[string]any) (status int, data map[string]any, errs []string)

// Token is the server's record of a token.
type Token struct {
	// Paths the token may write to; "*" is all.
	Paths []string
	// Expires is when the token ends; the zero time is never.
	Expires time.Time
	// Max is when it ends at the latest, however often it is renewed; the zero time is never.
	Max time.Time
	// TTL is the time that a renewal adds. Zero is not renewable.
	TTL time.Duration
}

// Server is a Vault server. All methods are safe for concurrent use.
type Server struct {
	// CA is the server's certificate in PEM, if it speaks TLS.
	CA []byte

	tb     testing.TB
	engine Engine
	addr   string
	useTLS bool

	mu        sync.Mutex
	server    *httptest.Server
	tokens    map[string]*Token
	login     func(path string, body map[string]any) (token string, t *Token)
	namespace string
	status    int // nonzero: answered to everything
	gone      chan struct{}
	logins    int
	renewals  int
	requests  int
}

// New starts a server on a free port of the loopback interface, with one token that may do everything.
func New(tb testing.TB, engine Engine, useTLS bool, token string) *Server {
	tb.Helper()
	s := &Server{tb: tb, engine: engine, useTLS: useTLS, addr: "127.0.0.1:0", tokens: map[string]*Token{token: {Paths: []string{"*"}}}}
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// Start starts a stopped server at its old address.
func (s *Server) Start() {
	s.tb.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.tb.Errorf("servertest: the fake Vault cannot listen on its address: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = nil
	s.addr = l.Addr().String()
	s.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: log.New(io.Discard, "", 0)}}
	if s.useTLS {
		if len(s.CA) > 0 { // keep the certificate
			s.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		s.server.StartTLS()
		s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
		return
	}
	s.server.Start()
}

// Stop closes the port and all connections.
func (s *Server) Stop() {
	s.Answer()
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// Restart stops the server if it runs, and starts it.
func (s *Server) Restart() {
	s.Stop()
	s.Start()
}

// Addr returns host and port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL returns the address as VAULT_ADDR.
func (s *Server) URL() string {
	if s.useTLS {
		return "https://" + s.Addr()
	}
	return "http://" + s.Addr()
}

// Status makes the server answer everything with a status. Zero ends it.
func (s *Server) Status(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Hang makes the server accept calls and not answer.
func (s *Server) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = make(chan struct{})
}

// Answer ends Hang.
func (s *Server) Answer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		close(s.gone)
		s.gone = nil
	}
}

// Set adds or replaces a token; nil revokes it.
func (s *Server) Set(token string, t *Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == nil {
		delete(s.tokens, token)
		return
	}
	s.tokens[token] = t
}

// Logins makes the server accept logins. f returns the token, or nil to refuse.
func (s *Server) Logins(f func(path string, body map[string]any) (string, *Token)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.login = f
}

// RequireNamespace makes the server refuse requests to other namespaces.
func (s *Server) RequireNamespace(ns string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespace = ns
}

// Counts returns the numbers of logins, renewals and requests.
func (s *Server) Counts() (logins, renewals, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins, s.renewals, s.requests
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	gone, status := s.gone, s.status
	s.mu.Unlock()
	if gone != nil {
		select {
		case <-gone:
		case <-r.Context().Done():
			return
		}
	}
	if status != 0 {
		// A proxy may reflect the request, credentials included.
		answer(w, status, nil, []string{fmt.Sprintf("refused: %v", r.Header)})
		return
	}
	var body map[string]any
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&body) // a GET has no body
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	secret, status, errs := s.answer(path, r.Header, body)
	if secret == nil && status == 0 {
		rest, ok := strings.CutPrefix(path, "transit/")
		if !ok {
			answer(w, http.StatusNotFound, nil, []string{"no handler for route"})
			return
		}
		var data map[string]any
		status, data, errs = s.engine(rest, body)
		secret = map[string]any{"data": data}
	}
	answer(w, status, secret, errs)
}

// answer checks the token, and answers requests that are not for the engine.
func (s *Server) answer(path string, h http.Header, body map[string]any) (secret map[string]any, status int, errs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	denied := func() (map[string]any, int, []string) {
		return nil, http.StatusForbidden, []string{"1 error occurred:\n\t* permission denied\n\n"}
	}
	if s.namespace != "" && strings.Trim(h.Get("X-Vault-Namespace"), "/") != s.namespace {
		return denied()
	}
	if strings.HasPrefix(path, "auth/") && strings.HasSuffix(path, "/login") {
		s.logins++
		if s.login == nil {
			return nil, http.StatusNotFound, []string{"no handler for route"}
		}
		name, t := s.login(path, body)
		if t == nil {
			return nil, http.StatusBadRequest, []string{fmt.Sprintf("invalid role or secret ID: %v", body)}
		}
		s.tokens[name] = t
		return map[string]any{"auth": t.auth(name)}, 0, nil
	}
	name := h.Get("X-Vault-Token")
	t := s.tokens[name]
	if t == nil || !t.Expires.IsZero() && time.Now().After(t.Expires) {
		return denied()
	}
	switch path {
	case "auth/token/lookup-self":
		return map[string]any{"data": map[string]any{"ttl": t.left(), "renewable": t.TTL > 0}}, 0, nil
	case "auth/token/renew-self":
		s.renewals++
		if t.TTL == 0 {
			return nil, http.StatusBadRequest, []string{"lease is not renewable"}
		}
		t.Expires = time.Now().Add(t.TTL)
		if !t.Max.IsZero() && t.Expires.After(t.Max) {
			t.Expires = t.Max
		}
		return map[string]any{"auth": t.auth(name)}, 0, nil
	}
	if slices.Contains(t.Paths, "*") || slices.Contains(t.Paths, path) {
		return nil, 0, nil
	}
	return denied()
}

func (t *Token) left() int {
	if t.Expires.IsZero() {
		return 0
	}
	return int(time.Until(t.Expires).Round(time.Second) / time.Second)
}

func (t *Token) auth(name string) map[string]any {
	return map[string]any{"client_token": name, "lease_duration": t.left(), "renewable": t.TTL > 0}
}

func answer(w http.ResponseWriter, status int, secret map[string]any, errs []string) {
	status = cmp.Or(status, http.StatusOK)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status != http.StatusOK {
		secret = map[string]any{"errors": errs}
	}
	_ = json.NewEncoder(w).Encode(secret) // the client has gone
}
