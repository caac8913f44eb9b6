package awskms

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
	"github.com/sealcache/sealcache/internal/errtext"
)

// Limits of KMS, in bytes.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
)

// client makes the calls of one key. It sends what Tink's integration sends.
type client struct {
	kms         *kms.Client
	credentials aws.CredentialsProvider
	arn         string
	closeIdle   func() // nil if the application owns the connections
}

// encryptionContext returns a context of aead.WithWrapContext as it is, so that CloudTrail shows it. It returns any other
// associated data as Tink's integration sends it. A wrap context has no name "associatedData", so the two never collide.
func encryptionContext(associatedData []byte) map[string]string {
	if len(associatedData) == 0 {
		return nil
	}
	if wrapContext, ok := aead.ParseWrapContext(associatedData); ok {
		return wrapContext
	}
	return map[string]string{"associatedData": hex.EncodeToString(associatedData)}
}

// Wrap implements keyservice.Client.
func (c *client) Wrap(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if len(plaintext) == 0 || len(plaintext) > maxPlaintext {
		return nil, &keyservice.Failure{Reason: "AWS KMS can encrypt only 1 to 4096 bytes"}
	}
	out, err := c.kms.Encrypt(ctx, &kms.EncryptInput{
		KeyId:             aws.String(c.arn),
		Plaintext:         plaintext,
		EncryptionContext: encryptionContext(associatedData),
	})
	if err != nil {
		return nil, classify(err, "kms:Encrypt")
	}
	if !c.isKey(out.KeyId) {
		return nil, &keyservice.Failure{Reason: reasonOtherKey}
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements keyservice.Client. It names the key: KMS would otherwise decrypt under any key that the principal may use.
func (c *client) Unwrap(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) == 0 || len(ciphertext) > maxCiphertext {
		return nil, keyservice.Refuse(aead.ErrUnauthentic, "the length of the ciphertext shows that AWS KMS did not encrypt it", nil)
	}
	out, err := c.kms.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             aws.String(c.arn),
		CiphertextBlob:    ciphertext,
		EncryptionContext: encryptionContext(associatedData),
	})
	if err != nil {
		return nil, classify(err, "kms:Decrypt")
	}
	switch { // a proxy may have answered in its place
	case len(out.Plaintext) == 0: // KMS encrypts no empty plaintext
		return nil, &keyservice.Failure{Reason: "the answer of AWS KMS contains no plaintext"}
	case !c.isKey(out.KeyId):
		clear(out.Plaintext)
		return nil, &keyservice.Failure{Reason: reasonOtherKey}
	}
	return out.Plaintext, nil
}

const reasonOtherKey = "the answer of AWS KMS is for another key"

// isKey reports whether the ARN of an answer can be this key. The key of an alias has the region and the account of the alias.
func (c *client) isKey(answered *string) bool {
	if place, _, alias := strings.Cut(c.arn, ":alias/"); alias {
		return strings.HasPrefix(aws.ToString(answered), place+":key/")
	}
	return aws.ToString(answered) == c.arn
}

// Probe implements keyservice.Client.
func (c *client) Probe(ctx context.Context) error {
	if c.credentials == nil {
		return &keyservice.Failure{Reason: reasonCredentials}
	}
	if _, err := c.credentials.Retrieve(ctx); err != nil {
		return &keyservice.Failure{Reason: reasonCredentials, Cause: err}
	}
	return keyservice.ProbeUnwrap(ctx, c)
}

// Close implements keyservice.Client.
func (c *client) Close() error {
	if c.closeIdle != nil {
		c.closeIdle()
	}
	return nil
}

const reasonCredentials = "no AWS credentials (set AWS_PROFILE, AWS_ACCESS_KEY_ID or a role)"

// classify tells a refusal from an outage. An answer that it does not know is an outage. A refusal of KMS has status 400; proxies
// answer with others. Credentials come from another service, with its own codes.
func classify(err error, needs string) *keyservice.Failure {
	var (
		api    smithy.APIError
		answer *smithyhttp.ResponseError
	)
	if strings.Contains(errtext.Text(err), "get identity: ") {
		return &keyservice.Failure{Reason: reasonCredentials, Cause: err}
	}
	if !errors.As(err, &api) {
		return keyservice.Unreached(err)
	}
	f := &keyservice.Failure{Reason: "AWS KMS gave an answer of unknown form", Cause: err}
	if errors.As(err, &answer) {
		f.Reason = "the key service answered with HTTP status " + strconv.Itoa(answer.HTTPStatusCode())
	}
	refuse := func(as error, reason string) *keyservice.Failure {
		if answer == nil || answer.HTTPStatusCode() != http.StatusBadRequest {
			return f
		}
		return keyservice.Refuse(as, reason, err)
	}
	switch api.ErrorCode() {
	case "InvalidCiphertextException":
		return refuse(aead.ErrUnauthentic, "AWS KMS reports that the ciphertext was altered or belongs to another key")
	case "IncorrectKeyException":
		return refuse(aead.ErrUnknownKey, "another AWS KMS key encrypted the ciphertext")
	case "NotFoundException":
		return refuse(aead.ErrUnknownKey, "the key does not exist in the key service")
	case "DisabledException":
		return refuse(aead.ErrUnknownKey, "the key is disabled in the key service")
	case "KMSInvalidStateException":
		// A key store that is not connected and a replica that is being made have the same code, and pass.
		if text := api.ErrorMessage(); strings.Contains(text, "pending deletion") || strings.Contains(text, "pending replica deletion") {
			return refuse(aead.ErrUnknownKey, "the key is scheduled for deletion in the key service")
		}
		return &keyservice.Failure{Reason: "the state of the key does not allow its use", Remedy: "check the state in AWS KMS", Cause: err}
	case "InvalidKeyUsageException", "UnsupportedOperationException":
		return &keyservice.Failure{Reason: "the key is not a symmetric key for encryption", Cause: err}
	case "AccessDeniedException":
		return &keyservice.Failure{Reason: "permission denied", Remedy: fmt.Sprintf("grant the permission %q", needs), Cause: err}
	case "ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException":
		return &keyservice.Failure{Reason: "the key service throttled the call", Cause: err}
	case "UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId", "IncompleteSignature",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException":
		return &keyservice.Failure{Reason: "the AWS credentials are wrong or have expired", Cause: err}
	}
	return f
}
