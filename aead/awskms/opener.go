package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// Opener opens keys of AWS KMS. It implements aead.KEKOpener. The zero value takes credentials from the SDK's chain.
type Opener struct {
	// Config has credentials, HTTP client and endpoint, instead of the SDK's chain. Its region is ignored: the ARN has one.
	// The KEK does not close its HTTP client.
	Config *aws.Config
	// Endpoint is the URL of KMS, such as the URL of a VPC endpoint. The default is AWS_ENDPOINT_URL_KMS, or the
	// endpoint of the region.
	Endpoint string
}

var _ aead.KEKOpener = Opener{}

// Schemes returns "aws-kms".
func (Opener) Schemes() []string { return []string{"aws-kms"} }

// OpenKEK proves that the key wraps and unwraps, and returns it. The result is an aead.KEK; close it. The context bounds the
// search for credentials and the proof. The URI has this form:
//
//	aws-kms://ARN[?decrypt-only=true]
//
// The ARN names a key or an alias, and contains the region. With decrypt-only=true, the KEK decrypts and never encrypts.
//
// # Errors of the KEK
//
// A failed decryption returns one of these errors:
//
//   - aead.ErrUnauthentic: the ciphertext or the associated data was altered.
//   - aead.ErrUnknownKey: another key encrypted the ciphertext, or the key is disabled, deleted or scheduled for deletion.
//   - aead.ErrKeyServiceUnavailable: any other failure, such as no connection, a missing permission or expired
//     credentials.
//
// For bytes that AWS KMS never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always returns
// aead.ErrKeyServiceUnavailable. To find the error of the AWS SDK, use errors.As.
//
// # Associated data
//
// Associated data is not encrypted, but a ciphertext decrypts only with the same associated data. KMS calls it an
// encryption context. By default, the encryption context holds the associated data in hexadecimal, under the name
// associatedData. With aead.WithWrapContext, it holds the names and values of this option as they are.
//
// KMS encrypts at most 4096 bytes per call, with at most about 4000 bytes of associated data. This is enough: a data key
// has about 40 bytes, and a keyset (a set of Tink keys) with one key about 120 bytes.
func (o Opener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	key, region, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	c := &client{arn: key.Name}
	var cfg aws.Config
	if o.Config != nil {
		cfg = o.Config.Copy()
	} else {
		if cfg, err = config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithHTTPClient(awshttp.NewBuildableClient())); err != nil {
			return nil, errors.New("the AWS settings are not valid (check the AWS_... variables and the AWS configuration files)")
		}
		c.ownConnections(&cfg)
	}
	c.credentials = cfg.Credentials
	cfg.Region = region
	c.kms = kms.NewFromConfig(cfg, func(opts *kms.Options) {
		if o.Endpoint != "" {
			opts.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	return keyservice.Open(ctx, key, c)
}

// ownConnections takes the transport out of the SDK's builder, whose connections cannot be closed. LoadDefaultConfig has
// applied AWS_CA_BUNDLE to it before.
func (c *client) ownConnections(cfg *aws.Config) {
	b, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return
	}
	h := keyservice.HTTPClient(b.GetTransport())
	cfg.HTTPClient, c.closeIdle = h, h.CloseIdleConnections
}

// parseURI reads aws-kms://ARN and returns the key and the region.
func parseURI(uri string) (key keyservice.Key, region string, err error) {
	form := regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+)$`)
	arn, decryptOnly, err := keyservice.ParseURI(uri, form, "aws-kms://arn:aws:kms:REGION:ACCOUNT:NAME (NAME is key/ID or alias/ALIAS)")
	if err != nil {
		return keyservice.Key{}, "", err
	}
	return keyservice.Key{Module: "awskms", Name: arn[0], DecryptOnly: decryptOnly}, arn[1], nil
}

// String shows no credential.
func (o Opener) String() string { return "awskms.Opener" }

// GoString returns String.
func (o Opener) GoString() string { return o.String() }

// LogValue returns String.
func (o Opener) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Format writes String, for every verb, because the configuration holds credentials.
func (o Opener) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, o.String()) } // fmt.State reports no errors
