// Package awskms opens keys of AWS KMS as key-encryption keys (KEKs) of package aead. A KEK encrypts other keys, which
// encrypt the data.
//
// Pass an [Opener] to [aead.OpenKEK]:
//
//	kek, err := aead.OpenKEK(ctx, "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", awskms.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// The key must be symmetric (SYMMETRIC_DEFAULT, the default of KMS). The application needs these permissions for it, and
// no others:
//
//	{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "arn:aws:kms:eu-west-1:111122223333:key/..."}
//
// # The URI
//
//	aws-kms://ARN[?decrypt-only=true]
//
// The ARN names a key or an alias, and contains the region. Prefer the ARN of a key. If an alias moves to another key,
// data of the former key becomes unreadable.
//
// With decrypt-only=true, the KEK decrypts and never encrypts. Set this parameter on the old key when you move to a new
// key.
//
// # Settings
//
// By default, credentials and endpoints come from the configuration of the AWS SDK. Examples are AWS_ACCESS_KEY_ID,
// AWS_PROFILE, AWS_ENDPOINT_URL_KMS, EKS web identities, and the roles of containers and instances. To use another
// configuration, set Opener.Config.
//
// # Format and limits
//
// A ciphertext has the format of Tink's library for AWS KMS (tink-go-awskms v3), so that library can decrypt it.
//
// Associated data is not encrypted, but a ciphertext decrypts only with the same associated data. KMS calls it an
// encryption context. By default, the encryption context holds the associated data in hexadecimal, under the name
// associatedData. If you pass [aead.WithWrapContext] to aead.NewEnvelope, the associated data is the names and values of
// that option. The encryption context holds them as they are. CloudTrail records the encryption context, so do not put a
// secret into it.
//
// KMS encrypts at most 4096 bytes per call, with at most about 4000 bytes of associated data. This is
// enough: a data key has about 40 bytes, and a keyset (a set of Tink keys) with one key about 120 bytes.
//
// # Errors
//
// [aead.OpenKEK] tests the key. If the test fails, the error names the key, and the permission if one is missing. No error
// contains a credential.
//
// A failed decryption returns one of these errors:
//
//   - [aead.ErrUnauthentic]: the ciphertext or the associated data was altered.
//   - [aead.ErrUnknownKey]: another key encrypted the ciphertext, or the key is disabled, deleted or scheduled for
//     deletion.
//   - [aead.ErrKeyServiceUnavailable]: any other failure, such as no connection, a missing permission or expired
//     credentials.
//
// For bytes that AWS KMS never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always returns
// aead.ErrKeyServiceUnavailable. To find the error of the AWS SDK, use errors.As.
//
// # Concurrency
//
// All types are safe for concurrent use. A call ends when its context ends. By default, the SDK repeats a failed request
// up to two times.
package awskms
