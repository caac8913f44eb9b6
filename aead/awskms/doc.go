// Package awskms opens key-encryption keys of AWS KMS.
//
// Its Opener is for [aead.OpenKEK], for fxmodule (group "kek"), and for any other place that takes an aead.KEKOpener:
//
//	kek, err := aead.OpenKEK(ctx, "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", awskms.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// The key must be symmetric (SYMMETRIC_DEFAULT, the default of KMS). The principal needs these permissions and no others:
//
//	{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "arn:aws:kms:eu-west-1:111122223333:key/..."}
//
// A ciphertext has the format of Tink's integration (tink-go-awskms v3). The encryption context of KMS contains the associated data
// in hexadecimal, under the name associatedData. With aead.WithWrapContext, the names and values of the option are the encryption
// context. CloudTrail records the encryption context, so it must not contain a secret.
//
// # The URI
//
//	aws-kms://ARN[?decrypt-only=true]
//
// The ARN names a key or an alias, and sets the region. Prefer the ARN of a key. If you change an alias to another key, data of
// the former key becomes unreadable. With decrypt-only=true, the KEK only decrypts. Set it on the old key when you move to a new
// key.
//
// # Settings
//
// Credentials, profiles, roles, proxies and endpoints come from the SDK's own chain: AWS_ACCESS_KEY_ID, AWS_PROFILE,
// web identity (EKS), container and instance roles, AWS_ENDPOINT_URL_KMS and so on. If you set Opener.Config, the Opener
// does not use this chain.
//
// # Limits
//
// KMS encrypts 1 to 4096 bytes. A data key has about 40 bytes, and a keyset with one key about 120 bytes. The encryption context
// has at most 8192 characters. So associated data has at most about 4000 bytes.
//
// # Errors
//
// OpenKEK returns an error if the key is missing or disabled, a permission is missing, or the credentials are wrong. The error
// names the key and the missing permission. No error shows a credential.
//
//   - Decryption returns aead.ErrUnauthentic if the ciphertext does not authenticate.
//   - Decryption returns aead.ErrUnknownKey if the ciphertext belongs to another key. It also does so if the key is disabled,
//     deleted or scheduled for deletion.
//   - Every other failure, and every failure to encrypt, is aead.ErrKeyServiceUnavailable. Examples are no connection,
//     AccessDeniedException, ThrottlingException, expired credentials and 5xx.
//
// errors.As finds the SDK's own error.
//
// All types are safe for concurrent use. Each HTTP request uses the context of the call. The SDK repeats a failed call up to two
// times.
package awskms
