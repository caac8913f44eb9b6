package gcpkms

import (
	"context"
	"fmt"
	"hash/crc32"
	"strings"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// maxLength is what KMS takes, in bytes. A ciphertext is longer by at most overhead.
const (
	maxLength = 64 << 10
	overhead  = 1 << 10
)

// key makes the calls of one key. It sends what Tink's integration sends.
type key struct {
	client *kms.KeyManagementClient
	name   string
}

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// Wrap implements keyservice.Client. Checksums in both directions detect bytes that a machine in between changed.
func (k *key) Wrap(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if len(plaintext) > maxLength {
		return nil, &keyservice.Failure{Reason: "Google Cloud KMS can encrypt at most 65536 bytes"}
	}
	out, err := k.client.Encrypt(ctx, &kmspb.EncryptRequest{
		Name:                              k.name,
		Plaintext:                         plaintext,
		PlaintextCrc32C:                   checksum(plaintext),
		AdditionalAuthenticatedData:       associatedData,
		AdditionalAuthenticatedDataCrc32C: checksum(associatedData),
	})
	switch {
	case err != nil:
		return nil, classify(err, "cloudkms.cryptoKeyVersions.useToEncrypt", "")
	case !out.GetVerifiedPlaintextCrc32C() || !out.GetVerifiedAdditionalAuthenticatedDataCrc32C():
		return nil, &keyservice.Failure{Reason: "Google Cloud KMS did not verify the checksums of the request"}
	case !strings.HasPrefix(out.GetName(), k.name+"/cryptoKeyVersions/"):
		return nil, &keyservice.Failure{Reason: "the answer of Google Cloud KMS is for another key"}
	case out.GetCiphertextCrc32C().GetValue() != checksum(out.GetCiphertext()).GetValue():
		return nil, &keyservice.Failure{Reason: "the checksum of the answer does not match its bytes"}
	}
	return out.GetCiphertext(), nil
}

// Unwrap implements keyservice.Client.
func (k *key) Unwrap(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) == 0 || len(ciphertext) > maxLength+overhead {
		return nil, keyservice.Refuse(aead.ErrUnauthentic, "the length of the ciphertext shows that Google Cloud KMS did not encrypt it", nil)
	}
	out, err := k.client.Decrypt(ctx, &kmspb.DecryptRequest{
		Name:                              k.name,
		Ciphertext:                        ciphertext,
		CiphertextCrc32C:                  checksum(ciphertext),
		AdditionalAuthenticatedData:       associatedData,
		AdditionalAuthenticatedDataCrc32C: checksum(associatedData),
	})
	switch {
	case err != nil:
		return nil, classify(err, "cloudkms.cryptoKeyVersions.useToDecrypt", "Google Cloud KMS reports that the ciphertext was altered or belongs to another key")
	case out.GetPlaintextCrc32C() == nil: // a proxy may have answered in its place
		return nil, &keyservice.Failure{Reason: "the answer of Google Cloud KMS has no checksum"}
	case out.GetPlaintextCrc32C().GetValue() != checksum(out.GetPlaintext()).GetValue():
		return nil, &keyservice.Failure{Reason: "the checksum of the answer does not match its bytes"}
	}
	return out.GetPlaintext(), nil
}

// Probe implements keyservice.Client.
func (k *key) Probe(ctx context.Context) error {
	return keyservice.ProbeUnwrap(ctx, k)
}

// Close implements keyservice.Client.
func (k *key) Close() error { return k.client.Close() }

const reasonCredentials = "no Google Cloud credentials (run \"gcloud auth application-default login\")"

// classify tells a refusal from an outage. An answer that it does not know is an outage. invalid is what INVALID_ARGUMENT
// means, if it is a refusal of the ciphertext.
func classify(err error, needs, invalid string) *keyservice.Failure {
	s, ok := status.FromError(err)
	if !ok {
		return keyservice.Unreached(err)
	}
	f := &keyservice.Failure{Reason: "the key service answered with gRPC status " + s.Code().String(), Cause: err}
	text := s.Message()
	switch s.Code() {
	case codes.InvalidArgument:
		switch {
		case strings.Contains(text, "checksum"), strings.Contains(text, "crc32c"): // changed on the way
			f.Reason = "the request was changed on its way to Google Cloud KMS"
		case refusedByAPI(err):
			f.Reason = "Google's API refused the request before Cloud KMS saw it (are the credentials right?)"
		case invalid != "":
			return keyservice.Refuse(aead.ErrUnauthentic, invalid, err)
		}
	case codes.NotFound:
		return keyservice.Refuse(aead.ErrUnknownKey, "the key does not exist in the key service", err)
	case codes.FailedPrecondition:
		// A disabled key version has this code, and so has a key of another purpose, or one whose external key manager errs.
		for _, state := range []string{"DISABLED", "DESTROYED", "DESTROY_SCHEDULED", "not enabled"} {
			if strings.Contains(text, state) {
				return keyservice.Refuse(aead.ErrUnknownKey, "the key version is disabled or destroyed in the key service", err)
			}
		}
		f.Reason = "the key cannot be used (is its purpose ENCRYPT_DECRYPT?)"
	case codes.PermissionDenied:
		f.Reason, f.Remedy = "permission denied", fmt.Sprintf("grant the permission %q", needs)
	case codes.Unauthenticated:
		f.Reason = "the Google Cloud credentials are wrong or have expired"
	case codes.ResourceExhausted:
		if !strings.HasPrefix(text, "grpc: received message larger") {
			f.Reason = "the key service throttled the call"
		}
	case codes.Unavailable:
		f.Reason = "the service is unavailable or cannot be reached"
	case codes.DeadlineExceeded:
		f.Reason = context.DeadlineExceeded.Error()
	case codes.Canceled:
		f.Reason = context.Canceled.Error()
	}
	return f
}

// refusedByAPI reports whether the part of Google's API that all services share refused the request. It names a reason,
// such as API_KEY_INVALID, in the domain googleapis.com (https://google.aip.dev/193). Cloud KMS has not seen the request.
func refusedByAPI(err error) bool {
	answer, ok := apierror.FromError(err)
	return ok && answer.Domain() == "googleapis.com"
}
