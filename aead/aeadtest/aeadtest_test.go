package aeadtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// broken is an AEAD with one fault.
type broken struct {
	good  tink.AEAD
	fault string
}

func (b *broken) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil && b.fault != "Context" {
		return nil, err
	}
	switch b.fault {
	case "AssociatedData":
		ad = nil
	case "InputKept":
		if len(plaintext) > 0 {
			defer func() { plaintext[0]++ }()
		}
	case "Randomized":
		return append([]byte("fixed"), plaintext...), nil
	case "RoundTrip":
		if len(plaintext) > 1000 {
			plaintext = plaintext[:1000]
		}
	}
	sealed, err := b.good.Encrypt(plaintext, ad)
	switch b.fault {
	case "Altered", "Truncated":
		sealed = append(sealed, 7) // a byte that no code reads
	}
	return sealed, err
}

func (b *broken) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil && b.fault != "Context" {
		return nil, err
	}
	switch b.fault {
	case "AssociatedData":
		ad = nil
	case "Randomized":
		return bytes.TrimPrefix(ciphertext, []byte("fixed")), nil
	case "Altered", "Truncated":
		if len(ciphertext) > 0 {
			ciphertext = ciphertext[:len(ciphertext)-1]
		}
	case "Extended":
		for n := len(ciphertext); n > 28; n-- {
			if opened, err := b.good.Decrypt(ciphertext[:n], ad); err == nil {
				return opened, nil
			}
		}
	case "Garbage":
		if len(ciphertext) == 0 {
			return []byte{}, nil
		}
	}
	opened, err := b.good.Decrypt(ciphertext, ad)
	if err != nil {
		if b.fault == "Errors" {
			return nil, err
		}
		return nil, aead.ErrUnauthentic
	}
	if b.fault == "Empty" && len(opened) == 0 {
		return nil, nil
	}
	return opened, nil
}

// brokenAppending breaks the appending calls.
type brokenAppending struct{ broken }

func (b *brokenAppending) Overhead() int { return 28 }

func (b *brokenAppending) SealTo(ctx context.Context, dst, plaintext, ad []byte) ([]byte, error) {
	sealed, err := b.EncryptWithContext(ctx, plaintext, ad)
	if err != nil && b.fault != "AppendContext" {
		return nil, err
	}
	if b.fault == "SealTo" {
		return sealed, err
	}
	return append(dst, sealed...), nil
}

func (b *brokenAppending) OpenTo(ctx context.Context, dst, ciphertext, ad []byte) ([]byte, error) {
	opened, err := b.DecryptWithContext(ctx, ciphertext, ad)
	if err != nil {
		return nil, err
	}
	switch b.fault {
	case "OpenTo":
		if len(ciphertext) > 0 && len(dst) > 0 {
			ciphertext[0]++
		}
	case "OpenToInPlace":
		if len(dst) == 0 {
			return opened, nil
		}
	case "Room":
		return bytes.Join([][]byte{dst, opened}, nil), nil
	}
	return append(dst, opened...), nil
}

func newBroken(t *testing.T, fault string) tink.AEADWithContext {
	key := make([]byte, 32)
	copy(key, t.Name())
	good, err := subtle.NewAESGCM(key)
	if err != nil {
		t.Fatal(err)
	}
	b := broken{good, fault}
	switch fault {
	case "SealTo", "OpenTo", "OpenToInPlace", "AppendContext", "Room", "none, appending":
		return &brokenAppending{b}
	}
	return &b
}

// TestSubject runs the suite on a subject with a fault; TestSuiteFindsFaults starts it in its own process.
func TestSubject(t *testing.T) {
	fault := os.Getenv("AEADTEST_FAULT")
	if fault == "" {
		fault = "none"
	}
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return newBroken(t, fault) })
}

// A suite that cannot fail proves nothing.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	for fault, finds := range map[string]string{
		"none": "", "none, appending": "",
		"RoundTrip": "RoundTrip", "Empty": "Empty", "InputKept": "InputKept", "Randomized": "Randomized",
		"Altered": "Altered", "Truncated": "Altered", "Extended": "Extended", "AssociatedData": "AssociatedData",
		"Garbage": "Garbage", "Context": "Context", "Errors": "Altered",
		"SealTo": "SealTo", "OpenTo": "OpenTo", "OpenToInPlace": "OpenToInPlace", "Room": "Room",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSubject$", "-test.v")
			cmd.Env = append(os.Environ(), "AEADTEST_FAULT="+fault)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case finds == "" && err != nil:
				t.Errorf("a sound subject fails: %v\n%s", err, out)
			case finds != "" && !errors.As(err, &exit):
				t.Errorf("the fault is not found: %v", err)
			case finds != "" && !strings.Contains(string(out), "--- FAIL: TestSubject/"+finds+" "):
				t.Errorf("%s does not find the fault:\n%s", finds, out)
			}
		})
	}
}

func TestKeyService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := aeadtest.NewKeyService(t)
		ctx := t.Context()
		sealed, err := s.EncryptWithContext(ctx, []byte("data key"), nil)
		if err != nil {
			t.Fatal(err)
		}
		decrypt := func() error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := s.DecryptWithContext(ctx, sealed, nil)
			return err
		}
		s.Delay(time.Second)
		began := time.Now()
		if err := decrypt(); err != nil || time.Since(began) != time.Second {
			t.Errorf("slow: %v after %v", err, time.Since(began))
		}
		s.Delay(time.Hour)
		if err := decrypt(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("too slow: %v", err)
		}
		s.Delay(0)
		s.Fail(aeadtest.ErrOutage)
		if err := decrypt(); !errors.Is(err, aeadtest.ErrOutage) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("failing: %v", err)
		}
		s.Fail(nil)
		s.Refuse(true)
		if err := decrypt(); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("refusing: %v", err)
		}
		s.Refuse(false)
		s.Gone(true)
		if err := decrypt(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gone: %v", err)
		}
		s.Gone(false)
		s.Rotate(t)
		if err := decrypt(); err != nil {
			t.Errorf("after a rotation: %v", err)
		}
		s.DestroyOldKeys(t)
		if err := decrypt(); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("after its key was destroyed: %v", err)
		}
		if s.Encrypts() != 1 || s.Decrypts() != 7 || s.MostAtOnce() != 1 {
			t.Errorf("%d, %d, %d calls", s.Encrypts(), s.Decrypts(), s.MostAtOnce())
		}
	})
}

func ExampleKeyService() {
	t := new(testing.T) // in a test, the test's own
	service := aeadtest.NewKeyService(t)
	envelope, err := aead.NewEnvelope(context.Background(), service)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer envelope.Close()
	for range 1000 {
		if _, err := envelope.EncryptWithContext(context.Background(), []byte("message"), nil); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("calls for 1000 messages:", service.Encrypts())
	// Output: calls for 1000 messages: 1
}
