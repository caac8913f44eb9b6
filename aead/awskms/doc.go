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
// The URI contains the ARN of the key. Do not use the ARN of an alias: if the alias moves to another key, data of the
// former key becomes unreadable. The key must be symmetric (SYMMETRIC_DEFAULT, the default of KMS). The application
// needs these permissions for the key, and no others:
//
//	{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "arn:aws:kms:eu-west-1:111122223333:key/..."}
//
// When you move to a new key, add ?decrypt-only=true to the URI of the old key. The KEK with this URI then decrypts and
// never encrypts. [aead.NewKEKSet] combines it with the KEK of the new key.
//
// # Settings
//
// By default, credentials and endpoints come from the configuration of the AWS SDK. Examples are AWS_ACCESS_KEY_ID,
// AWS_PROFILE, AWS_ENDPOINT_URL_KMS, EKS web identities, and the roles of containers and instances. To use another
// configuration, set Opener.Config.
//
// # Errors and concurrency
//
// [aead.OpenKEK] tests the key. If the test fails, the error contains the name of the key. If a permission is
// missing, the error also says which permission. No error contains a credential. The comment of [Opener.OpenKEK]
// lists the errors of a KEK.
//
// All types are safe for concurrent use. A call ends when its context ends. By default, the SDK repeats a failed request
// up to two times.
//
// # Format
//
// A ciphertext has the format of tink-go-awskms v3, Tink's library for AWS KMS. The library can decrypt the ciphertext,
// unless the Envelope has the option [aead.WithWrapContext].
//
// With this option, the encryption context of each call is the map that the application gives to the option. KMS decrypts
// only with the same map. CloudTrail records the map, so it must not contain a secret.
package awskms
