package gcpkms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"net"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	bearer  = "ya29.the-access-token-of-the-tests"
	keyName = "projects/shop/locations/europe-west1/keyRings/services/cryptoKeys/cache"
)

// fakeKMS is Google Cloud KMS with the calls Encrypt and Decrypt. It checks tokens, checksums, permissions, the state of the key
// version and lengths as KMS does.
type fakeKMS struct {
	kmspb.UnimplementedKeyManagementServiceServer
	t    *testing.T
	addr string

	mu      sync.Mutex
	server  *grpc.Server
	key     tink.AEAD
	err     error           // its status code is answered to everything
	api     error           // answered to everything, before the service itself
	denied  map[string]bool // by call
	state   string          // of the key version, if not enabled
	token   string
	corrupt bool // answers have wrong checksums
	empty   bool // Decrypt answers nothing
	huge    bool // Decrypt answers a megabyte
	gone    bool
	seen    []string // the additional authenticated data of Encrypt
}

func newFake(t *testing.T) *fakeKMS {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeKMS{t: t, addr: "127.0.0.1:0", key: a, token: bearer, denied: map[string]bool{}}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *fakeKMS) start() {
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Errorf("listen: %v", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addr = l.Addr().String()
	server := grpc.NewServer()
	f.server = server
	kmspb.RegisterKeyManagementServiceServer(server, f)
	go func() { _ = server.Serve(l) }() // it ends with Stop
}

func (f *fakeKMS) stop() {
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	server.Stop()
}

func (f *fakeKMS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// perRPC sends an access token without TLS.
type perRPC string

func (p perRPC) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(p)}, nil
}

func (perRPC) RequireTransportSecurity() bool { return false }

// options connect a client to the fake.
func (f *fakeKMS) options(token string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(f.addr),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithPerRPCCredentials(perRPC(token))),
	}
}

// admit returns the answer to a call that is not to be served. It waits if the service hangs.
func (f *fakeKMS) admit(ctx context.Context, call, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return ctx.Err()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	switch {
	case f.api != nil:
		return f.api
	case f.err != nil: // a proxy may reflect the request
		return status.Errorf(status.Code(f.err), "refused: %v", md)
	case fmt.Sprint(md["authorization"]) != "[Bearer "+f.token+"]":
		return status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
	case f.denied[call]:
		return status.Errorf(codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useTo%s' denied on resource '%s' (or it may not exist).", call, name)
	case name != keyName:
		return status.Errorf(codes.NotFound, "CryptoKey %s not found.", name)
	}
	return nil
}

// enabled fails if the key version must not be used.
func (f *fakeKMS) enabled() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != "" {
		return status.Errorf(codes.FailedPrecondition, "%s/cryptoKeyVersions/1 is not enabled, current state is: %s.", keyName, f.state)
	}
	return nil
}

func crc(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

func (f *fakeKMS) answerCRC(b []byte) *wrapperspb.Int64Value {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.corrupt {
		return wrapperspb.Int64(crc(b) + 1)
	}
	return wrapperspb.Int64(crc(b))
}

func (f *fakeKMS) isEmpty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.empty
}

const head = "\x0a\x24\x00" // how ciphertexts of KMS begin

func (f *fakeKMS) Encrypt(ctx context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := f.admit(ctx, "Encrypt", r.GetName()); err != nil {
		return nil, err
	}
	if err := f.enabled(); err != nil {
		return nil, err
	}
	if r.GetPlaintextCrc32C().GetValue() != crc(r.GetPlaintext()) || r.GetAdditionalAuthenticatedDataCrc32C().GetValue() != crc(r.GetAdditionalAuthenticatedData()) {
		return nil, status.Error(codes.InvalidArgument, "The checksum in field plaintext_crc32c did not match the data in field plaintext.")
	}
	if len(r.GetPlaintext()) > 64<<10 || len(r.GetAdditionalAuthenticatedData()) > 64<<10 {
		return nil, status.Error(codes.InvalidArgument, "too long")
	}
	f.set(func() { f.seen = append(f.seen, string(r.GetAdditionalAuthenticatedData())) })
	out, err := f.key.Encrypt(r.GetPlaintext(), r.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, err
	}
	out = append([]byte(head), out...)
	return &kmspb.EncryptResponse{
		Name:                    keyName + "/cryptoKeyVersions/1",
		Ciphertext:              out,
		CiphertextCrc32C:        f.answerCRC(out),
		VerifiedPlaintextCrc32C: true,
		VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (f *fakeKMS) Decrypt(ctx context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := f.admit(ctx, "Decrypt", r.GetName()); err != nil {
		return nil, err
	}
	if r.GetCiphertextCrc32C().GetValue() != crc(r.GetCiphertext()) || r.GetAdditionalAuthenticatedDataCrc32C().GetValue() != crc(r.GetAdditionalAuthenticatedData()) {
		return nil, status.Error(codes.InvalidArgument, "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.")
	}
	sealed, ok := bytes.CutPrefix(r.GetCiphertext(), []byte(head))
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	}
	if err := f.enabled(); err != nil {
		return nil, err
	}
	out, err := f.key.Decrypt(sealed, r.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	if f.isEmpty() {
		return &kmspb.DecryptResponse{}, nil
	}
	f.set(func() {
		if f.huge {
			out = make([]byte, 1<<20)
		}
	})
	return &kmspb.DecryptResponse{Plaintext: out, PlaintextCrc32C: f.answerCRC(out), UsedPrimary: true}, nil
}
