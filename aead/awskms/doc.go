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
// Ciphertexts are those of Tink's integration (tink-go-awskms v3): associated data is in the encryption context, under the
// name associatedData, in hexadecimal. CloudTrail records it, so it must not be a secret. A context of aead.WithWrapContext is
// the encryption context itself.
//
// # The URI
//
//	aws-kms://ARN[?decrypt-only=true]
//
// The ARN names a key or an alias, and sets the region. Prefer the key: if an alias is pointed at another key, everything
// that the former key encrypted becomes unreadable. With decrypt-only=true the key only decrypts. Use it for the old key
// after you move to a new one.
//
// # Settings
//
// Credentials, profiles, roles, proxies and endpoints come from the SDK's own chain: AWS_ACCESS_KEY_ID, AWS_PROFILE,
// web identity (EKS), container and instance roles, AWS_ENDPOINT_URL_KMS and so on. Opener.Config replaces the chain.
//
// # Limits
//
// KMS encrypts 1 to 4096 bytes. A data key has about 40, a keyset with one key about 120. The encryption context may have 8192
// characters, which leaves about 4000 bytes of associated data.
//
// # Errors
//
// A missing key, a missing permission, wrong credentials and a disabled key are errors of OpenKEK. They name the key and the
// permission. No error shows a credential.
//
// A ciphertext that does not authenticate is aead.ErrUnauthentic. A key that is disabled, deleted or waits for its deletion,
// and a ciphertext of another key, are aead.ErrUnknownKey. Every other failure is aead.ErrKeyServiceUnavailable: no connection,
// AccessDeniedException, ThrottlingException, expired credentials, 5xx. errors.As finds the SDK's own error.
//
// All types are safe for concurrent use. The context of a call reaches the wire. The SDK repeats a call that failed twice.
package awskms
