package aeadtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// faultyRemote is a KEK with one fault.
type faultyRemote struct {
	*aeadtest.KeyService
	fault string
}

const remoteSecret = "hunter2"

func (f *faultyRemote) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if f.fault == "deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	out, err := f.KeyService.DecryptWithContext(ctx, ciphertext, ad)
	if err == nil || errors.Is(err, aead.ErrUnauthentic) {
		return out, err
	}
	switch f.fault {
	case "refusal":
		return nil, aead.ErrUnauthentic
	case "secret":
		return nil, errors.New("password " + remoteSecret)
	}
	return nil, err
}

func (f *faultyRemote) String() string {
	if f.fault == "format" {
		return remoteSecret
	}
	return "a KEK"
}

// TestRemoteSubject runs the suite on a subject with a fault; TestRunRemoteFindsFaults starts it in its own process.
func TestRemoteSubject(t *testing.T) {
	fault := os.Getenv("AEADTEST_REMOTE_FAULT")
	if fault == "" {
		fault = "none"
	}
	aeadtest.RunRemote(t, func(t *testing.T) aeadtest.Remote {
		s := aeadtest.NewKeyService(t)
		return aeadtest.Remote{
			KEK:  &faultyRemote{s, fault},
			Stop: func() { s.Fail(aeadtest.ErrOutage) },
			Hang: func() { s.Gone(true) },
			Heal: func() {
				s.Gone(false)
				if fault != "heal" {
					s.Fail(nil)
				}
			},
			Secrets: []string{remoteSecret},
		}
	})
}

func TestRunRemoteFindsFaults(t *testing.T) {
	t.Parallel()
	for fault, finds := range map[string]string{
		"none": "", "refusal": "Stopped", "secret": "Stopped", "format": "Stopped", "deadline": "Hanging",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRemoteSubject$", "-test.v")
			cmd.Env = append(os.Environ(), "AEADTEST_REMOTE_FAULT="+fault)
			out, err := cmd.CombinedOutput()
			switch {
			case finds == "" && err != nil:
				t.Errorf("a sound subject fails: %v\n%s", err, out)
			case finds != "" && !strings.Contains(string(out), "--- FAIL: TestRemoteSubject/"+finds+" "):
				t.Errorf("%s does not find the fault:\n%s", finds, out)
			}
		})
	}
}
