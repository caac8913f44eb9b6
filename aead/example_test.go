package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// mountedSecret stands for the platform that mounts a KEK as a file.
func mountedSecret(dir string) string {
	path := filepath.Join(dir, "kek.json")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	if err := insecurecleartextkeyset.CreateKeyset(file, tinkaead.AES256GCMKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	return path
}

// localKEK stands for any KEK.
func localKEK() *aead.Keyring {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		log.Fatal(err)
	}
	return kek
}

func ExampleNewEnvelope() {
	ctx := context.Background()
	kek := localKEK() // or OpenKEK
	defer kek.Close()
	envelope, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()

	sealed, err := envelope.EncryptWithContext(ctx, []byte("message"), []byte("its context"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := envelope.DecryptWithContext(ctx, sealed, []byte("its context"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d bytes more while sealed\n", opened, len(sealed)-len(opened))

	_, err = envelope.DecryptWithContext(ctx, sealed, []byte("another context"))
	fmt.Println(errors.Is(err, aead.ErrUnauthentic))
	fmt.Println("calls to wrap:", envelope.Stats().Wraps)
	// Output:
	// message, 99 bytes more while sealed
	// true
	// calls to wrap: 1
}

// Sealing behind a header that is already in the buffer, and opening in the buffer's own memory: no allocation, no copy.
func ExampleEnvelope_SealTo() {
	ctx := context.Background()
	kek := localKEK()
	defer kek.Close()
	envelope, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()

	plaintext := []byte("message")
	buf := make([]byte, 0, len("header:")+envelope.Overhead()+len(plaintext))
	buf = append(buf, "header:"...)
	buf, err = envelope.SealTo(ctx, buf, plaintext, nil)
	if err != nil {
		log.Fatal(err)
	}
	sealed := buf[len("header:"):]
	opened, err := envelope.OpenTo(ctx, sealed[:0], sealed, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%s\n", buf[:len("header:")], opened)
	// Output: header:message
}

func ExampleCreateKeyset() {
	ctx := context.Background()
	kek := localKEK()
	defer kek.Close()
	var file bytes.Buffer
	if err := aead.CreateKeyset(ctx, &file, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		log.Fatal(err)
	}

	keyring, err := aead.OpenKeyring(ctx, aead.BytesSource(file.Bytes()), kek)
	if err != nil {
		log.Fatal(err)
	}
	defer keyring.Close()
	for _, key := range keyring.Keys() {
		fmt.Println(key.Type, key.Status, key.Primary)
	}
	// Output: AesGcmKey Enabled true
}

// A new primary key, added with Tink, takes effect without restart; the old one goes on opening.
func ExampleOpenKeyring() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	kek := localKEK()
	defer kek.Close()

	path := filepath.Join(dir, "keyset.json")
	manager := keyset.NewManager()
	rotate := func() {
		id, err := manager.Add(tinkaead.AES256GCMKeyTemplate())
		if err != nil {
			log.Fatal(err)
		}
		if err := manager.SetPrimary(id); err != nil {
			log.Fatal(err)
		}
		handle, err := manager.Handle()
		if err != nil {
			log.Fatal(err)
		}
		var file bytes.Buffer
		if err := handle.WriteWithContext(ctx, keyset.NewJSONWriter(&file), kek, nil); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
			log.Fatal(err)
		}
	}

	rotate()
	keyring, err := aead.OpenKeyring(ctx, aead.FileSource(path), kek, aead.WithoutReload())
	if err != nil {
		log.Fatal(err)
	}
	defer keyring.Close()
	sealed, err := keyring.Encrypt([]byte("message"), nil)
	if err != nil {
		log.Fatal(err)
	}

	rotate()
	if err := keyring.Reload(ctx); err != nil { // without the option, the change is noticed at once
		log.Fatal(err)
	}
	opened, err := keyring.Decrypt(sealed, nil)
	fmt.Printf("%s %v, %d keys\n", opened, err, len(keyring.Keys()))
	// Output: message <nil>, 2 keys
}

func ExampleOpenKEK() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := mountedSecret(dir)

	kek, err := aead.OpenKEK(ctx, "file://"+path+"?reload=off")
	if err != nil {
		log.Fatal(err)
	}
	wrapped, err := kek.EncryptWithContext(ctx, []byte("a data key"), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(wrapped) - len("a data key"))

	_, err = aead.OpenKEK(ctx, "hcvault://vault.example/transit/keys/cache")
	fmt.Println(err)
	// Output:
	// 33
	// aead: open KEK: unknown URI scheme "hcvault" (give OpenKEK the Opener of aead/hcvault; allowed schemes: file, passphrase)
}

func ExampleWithContext() {
	ctx := context.Background()
	handle, err := keyset.NewHandle(tinkaead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	primitive, err := tinkaead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	sealer := aead.WithContext(primitive)
	sealed, err := sealer.EncryptWithContext(ctx, []byte("message"), nil)
	if err != nil {
		log.Fatal(err)
	}
	sealed[len(sealed)-1] ^= 1
	_, err = sealer.DecryptWithContext(ctx, sealed, nil)
	fmt.Println(errors.Is(err, aead.ErrUnauthentic))
	// Output: true
}

func ExampleOpenPRF() {
	ctx := context.Background()
	kek := localKEK()
	defer kek.Close()
	var file bytes.Buffer
	if err := aead.CreateKeyset(ctx, &file, kek, prf.HMACSHA256PRFKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	set, err := aead.OpenPRF(ctx, aead.BytesSource(file.Bytes()), kek)
	if err != nil {
		log.Fatal(err)
	}
	pseudonym, err := set.ComputePrimaryPRF([]byte("user:42"), 32)
	fmt.Println(len(pseudonym), err)
	// Output: 32 <nil>
}

// Moving to another KEK: the new one wraps, and the old one still opens.
func ExampleNewKEKSet() {
	ctx := context.Background()
	before, after := localKEK(), localKEK() // or OpenKEK
	defer before.Close()
	defer after.Close()
	old, err := aead.NewEnvelope(ctx, before)
	if err != nil {
		log.Fatal(err)
	}
	defer old.Close()
	sealed, err := old.EncryptWithContext(ctx, []byte("message"), nil)
	if err != nil {
		log.Fatal(err)
	}

	set, err := aead.NewKEKSet(after, before)
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := aead.NewEnvelope(ctx, set)
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()
	opened, err := envelope.DecryptWithContext(ctx, sealed, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s; the old KEK opened %d data key\n", opened, set.Stats()[1].Unwraps)
	// Output: message; the old KEK opened 1 data key
}

// Two tenants with a KEK each. Neither opens what the other sealed.
func ExampleEnvelope_Tenant() {
	ctx := context.Background()
	keks := map[string]*aead.Keyring{"acme": localKEK(), "globex": localKEK()} // stands for a directory of tenants
	own := localKEK()
	defer own.Close()
	envelope, err := aead.NewEnvelope(ctx, own, aead.WithTenants(func(_ context.Context, id string) (tink.AEADWithContext, error) {
		if kek, ok := keks[id]; ok {
			return kek, nil
		}
		return nil, aead.ErrUnknownTenant
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()
	acme, err := envelope.Tenant("acme")
	if err != nil {
		log.Fatal(err)
	}
	globex, err := envelope.Tenant("globex")
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := acme.EncryptWithContext(ctx, []byte("message"), nil)
	if err != nil {
		log.Fatal(err)
	}
	opened, err := acme.DecryptWithContext(ctx, sealed, nil)
	fmt.Printf("%s %v\n", opened, err)
	_, err = globex.DecryptWithContext(ctx, sealed, nil)
	fmt.Println("another tenant:", err != nil)
	// Output:
	// message <nil>
	// another tenant: true
}
