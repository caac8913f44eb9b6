package vaulttest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

// token may do everything.
const token = "hvs.CAESIJ-a-root-token-of-the-tests"

// engine is Vault's transit engine over storage in memory.
type engine struct {
	t       *testing.T
	backend logical.Backend
	storage logical.Storage
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	backend, err := transit.Factory(context.Background(), &logical.BackendConfig{
		Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard}),
		System: &logical.StaticSystemView{
			DefaultLeaseTTLVal:  time.Hour,
			MaxLeaseTTLVal:      24 * time.Hour,
			ReplicationStateVal: consts.ReplicationPerformanceDisabled,
		},
		StorageView: &logical.InmemStorage{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &engine{t: t, backend: backend, storage: &logical.InmemStorage{}}
}

// handle is a servertest.Engine.
func (e *engine) handle(path string, body map[string]any) (int, map[string]any, []string) {
	ctx := context.Background()
	req := &logical.Request{Operation: logical.UpdateOperation, Path: path, Data: body, Storage: e.storage, MountPoint: "transit/"}
	if found, exists, err := e.backend.HandleExistenceCheck(ctx, req); err == nil && found && !exists {
		req.Operation = logical.CreateOperation
	}
	resp, err := e.backend.HandleRequest(ctx, req)
	if status, err := logical.RespondErrorCommon(req, resp, err); err != nil {
		return status, nil, []string{err.Error()}
	} else if status != 0 {
		return status, nil, nil
	}
	if resp == nil {
		return http.StatusOK, nil, nil
	}
	return http.StatusOK, resp.Data, nil
}

// do makes a request as an administrator.
func (e *engine) do(op logical.Operation, path string, body map[string]any) {
	e.t.Helper()
	resp, err := e.backend.HandleRequest(context.Background(), &logical.Request{Operation: op, Path: path, Data: body, Storage: e.storage})
	if err != nil || resp.IsError() {
		e.t.Fatalf("%s %s: %v, %v", op, path, resp, err)
	}
}

// create makes a key.
func (e *engine) create(name string, settings ...string) {
	e.t.Helper()
	body := map[string]any{}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		body[k] = v
	}
	e.do(logical.UpdateOperation, "keys/"+name, body)
}

// serve starts a server with an engine and a key "cache".
func serve(t *testing.T) (*engine, *servertest.Server) {
	t.Helper()
	e := newEngine(t)
	e.create("cache")
	return e, servertest.New(t, e.handle, false, token)
}
