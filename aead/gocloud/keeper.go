package gocloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// keeper makes the calls of one Keeper.
type keeper struct {
	keeper *secrets.Keeper
	azure  bool
	close  func() error
}

// Wrap implements keyservice.Client.
func (k *keeper) Wrap(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if len(plaintext) <= maxDirect {
		kept, err := k.encrypt(ctx, inner(kindDirect, associatedData, plaintext))
		if err != nil {
			return nil, err
		}
		return joinDirect(kept), nil
	}
	key := newKey()
	defer clear(key)
	kept, err := k.encrypt(ctx, inner(kindEnvelope, associatedData, key))
	if err != nil {
		return nil, err
	}
	out, err := joinEnvelope(kept)
	if err != nil {
		return nil, &keyservice.Failure{Reason: "the answer of the key service is too long"}
	}
	a, err := gcm(key)
	if err != nil {
		return nil, err
	}
	return a.Seal(out, nil, plaintext, out), nil
}

func (k *keeper) encrypt(ctx context.Context, in []byte) ([]byte, error) {
	defer clear(in)
	out, err := k.keeper.Encrypt(ctx, in)
	switch {
	case err != nil:
		return nil, k.classify(err, "encrypt")
	case len(out) == 0:
		return nil, &keyservice.Failure{Reason: "the answer of the key service contains no ciphertext"}
	}
	return out, nil
}

// Unwrap implements keyservice.Client.
func (k *keeper) Unwrap(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	refused := keyservice.Refuse(aead.ErrUnauthentic, "the ciphertext was altered or belongs to another key", nil)
	kind, kept, rest, err := split(ciphertext)
	if err != nil {
		return nil, refused
	}
	opened, err := k.keeper.Decrypt(ctx, kept)
	if err != nil {
		return nil, k.classify(err, "decrypt")
	}
	if !isInner(opened) { // a proxy may have answered in its place
		clear(opened)
		return nil, &keyservice.Failure{Reason: "the key service decrypted the ciphertext to bytes that package gocloud never encrypts"}
	}
	secret, err := secretOf(kind, associatedData, opened)
	if err != nil {
		return nil, refused
	}
	if kind == kindDirect {
		return secret, nil
	}
	defer clear(secret)
	a, err := gcm(secret)
	if err != nil {
		return nil, refused
	}
	plaintext, err := a.Open(nil, nil, rest, ciphertext[:len(ciphertext)-len(rest)])
	if err != nil {
		return nil, refused
	}
	return plaintext, nil
}

// Probe implements keyservice.Client. Some Keepers have no code for a refusal, so their error counts as one. Wrap then tells
// whether the key exists. Azure has a code, and a key of Azure may be open for decryption only.
func (k *keeper) Probe(ctx context.Context) error {
	garbage := make([]byte, 256)
	rand.Read(garbage)
	_, err := k.Unwrap(ctx, joinDirect(garbage), nil)
	var f *keyservice.Failure
	switch {
	case err == nil:
		return &keyservice.Failure{Reason: "the key service decrypts random bytes that it never encrypted (use another key or service)"}
	case errors.As(err, &f) && (errors.Is(f.Refusal, aead.ErrUnauthentic) || !k.azure && gcerrors.Code(f.Cause) == gcerrors.Unknown):
		return nil
	}
	return err
}

// Close implements keyservice.Client.
func (k *keeper) Close() error { return k.close() }

// classify tells a refusal from an outage. An answer that it does not know is an outage. A refusal of Azure has an error code of
// Azure, because a proxy may have answered in its place.
func (k *keeper) classify(err error, permission string) *keyservice.Failure {
	var answer *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	azure := errors.As(err, &answer)
	if errors.As(err, &login) {
		return &keyservice.Failure{Reason: "login: the credentials are wrong or have expired", Cause: err}
	}
	f := &keyservice.Failure{Cause: err}
	switch code := gcerrors.Code(err); {
	case azure && answer.ErrorCode == "Forbidden" && strings.Contains(answer.Error(), `"KeyDisabled"`):
		return keyservice.Refuse(aead.ErrUnknownKey, "the key is disabled in the key service", err)
	case code == gcerrors.InvalidArgument && (!azure || answer.ErrorCode == "BadParameter"):
		return keyservice.Refuse(aead.ErrUnauthentic, "the ciphertext was altered or belongs to another key", err)
	case code == gcerrors.NotFound && (!azure || answer.ErrorCode == "KeyNotFound"):
		return keyservice.Refuse(aead.ErrUnknownKey, "the key does not exist in the key service", err)
	case code == gcerrors.PermissionDenied:
		f.Reason, f.Remedy = "permission denied", fmt.Sprintf("grant the key permission %q", permission)
	case code == gcerrors.ResourceExhausted:
		f.Reason = "the key service throttled the call"
	case azure:
		f.Reason = "the key service answered with HTTP status " + strconv.Itoa(answer.StatusCode)
	case code == gcerrors.Unknown, code == gcerrors.OK:
		return keyservice.Unreached(err)
	default:
		f.Reason = "the key service answered with the error code " + code.String()
	}
	return f
}
