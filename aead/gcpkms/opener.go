package gcpkms

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"github.com/googleapis/gax-go/v2"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// Opener opens keys of Google Cloud KMS. It implements aead.KEKOpener. The zero value uses the application default
// credentials.
type Opener struct {
	// Options are options of Google's client, such as option.WithCredentials or option.WithEndpoint. A connection that is
	// given with option.WithGRPCConn is closed with the KEK.
	Options []option.ClientOption
}

var _ aead.KEKOpener = Opener{}

// Schemes returns "gcp-kms".
func (Opener) Schemes() []string { return []string{"gcp-kms"} }

// OpenKEK proves that the key wraps and unwraps, and returns it. The result is an aead.KEK; close it. The context bounds the
// search for credentials and the proof. The URI has this form:
//
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[?decrypt-only=true]
//
// With decrypt-only=true, the KEK decrypts and never encrypts.
//
// # Errors of the KEK
//
// A failed decryption returns one of these errors:
//
//   - aead.ErrUnauthentic: the ciphertext or the associated data was altered, or another key of KMS encrypted the
//     ciphertext.
//   - aead.ErrUnknownKey: the key does not exist, or its version is disabled or destroyed.
//   - aead.ErrKeyServiceUnavailable: any other failure, such as no connection, a missing permission or a wrong checksum.
//
// For bytes that Cloud KMS never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always
// returns aead.ErrKeyServiceUnavailable. To get the gRPC status of an error, call status.FromError.
//
// # Associated data
//
// Associated data is not encrypted, but a ciphertext decrypts only with the same associated data. KMS calls it additional
// authenticated data. KMS encrypts at most 65,536 bytes per call, with at most 65,536 bytes of associated data. With an HSM
// key, both together have at most 8,192 bytes.
func (o Opener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	described, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	// The client keeps the context for the credentials that it fetches later.
	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), slices.Clone(o.Options)...)
	if err != nil {
		reason := reasonCredentials
		if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
			reason = "the file of GOOGLE_APPLICATION_CREDENTIALS is missing or not valid"
		}
		return nil, keyservice.OpenError(described, &keyservice.Failure{Reason: reason, Cause: err})
	}
	limits := []gax.CallOption{gax.WithTimeout(callTimeout), gax.WithGRPCOptions(grpc.MaxCallRecvMsgSize(2 * maxLength))}
	client.CallOptions.Encrypt = append(client.CallOptions.Encrypt, limits...)
	client.CallOptions.Decrypt = append(client.CallOptions.Decrypt, limits...)
	return keyservice.Open(ctx, described, &key{client: client, name: described.Name})
}

// callTimeout bounds a call without a deadline, with its repetitions. Google's default is a minute.
const callTimeout = 10 * time.Second

// parseURI reads gcp-kms://projects/...
func parseURI(uri string) (keyservice.Key, error) {
	form := regexp.MustCompile(`^projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+$`)
	name, decryptOnly, err := keyservice.ParseURI(uri, form, "gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
	if err != nil {
		return keyservice.Key{}, err
	}
	return keyservice.Key{Module: "gcpkms", Name: name[0], DecryptOnly: decryptOnly}, nil
}

// String shows no credential.
func (o Opener) String() string { return "gcpkms.Opener" }

// GoString returns String.
func (o Opener) GoString() string { return o.String() }

// LogValue returns String.
func (o Opener) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Format writes String, for every verb, because the options hold credentials.
func (o Opener) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, o.String()) } // fmt.State reports no errors
