package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// A message is the record of some queue.
type message struct {
	ID, Type, Queue, Unique, Body, Error string
	Tries                                int
}

// sealedQueue adapts such a queue.
type sealedQueue struct {
	e       *jobs.Encryptor
	stored  []message // stands for Redis, SQS or a table
	unique  map[string]bool
	archive []message
}

// enqueue seals the stored fields. The id is chosen before, so that it can be bound.
func (q *sealedQueue) enqueue(ctx context.Context, typename, id string, payload []byte) error {
	body, err := q.e.Seal(ctx, jobs.Meta{Type: typename, Queue: "default", ID: id}, payload)
	if err != nil {
		return err
	}
	// Two ciphertexts are never equal, so a keyed token makes the job unique.
	unique, err := q.e.Tokens().Token("example.unique", []byte(typename), payload)
	if err != nil {
		return err
	}
	token := unique.String()
	if q.unique[token] {
		return errors.New("duplicate")
	}
	q.unique[token] = true
	q.stored = append(q.stored, message{ID: id, Type: typename, Queue: "default", Unique: token, Body: string(body)})
	return nil
}

// work runs the oldest message.
func (q *sealedQueue) work(ctx context.Context, handle func(payload []byte) error) {
	m := q.stored[0]
	meta := jobs.Meta{Type: m.Type, Queue: "default", ID: m.ID}
	payload, err := q.e.Open(ctx, meta, []byte(m.Body))
	switch {
	case err == nil:
	case errors.Is(err, jobs.ErrUnknownKey) && !jobs.Permanent(err) && m.Tries < 5:
		m.Tries++ // a new key may not have arrived yet, or an attacker made up the key's id
		q.stored = append(q.stored[1:], m)
		return
	case jobs.Permanent(err), errors.Is(err, jobs.ErrUnknownKey):
		m.Error = err.Error() // holds no part of the payload
		q.stored, q.archive = q.stored[1:], append(q.archive, m)
		return
	default:
		return // the key service does not answer: the message stays
	}
	q.stored = q.stored[1:]
	delete(q.unique, m.Unique)
	if err := handle(payload); err != nil {
		meta.Kind = jobs.Failure
		text, err := q.e.Seal(ctx, meta, []byte(err.Error()))
		if err != nil {
			text = []byte("error text withheld: it could not be sealed")
		}
		m.Error = string(text)
		q.stored = append(q.stored, m) // retried with the bytes that it has
	}
}

// Example adapts a queue.
func Example() {
	ctx := context.Background()
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	keys, err := aead.NewKeyring(handle)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	handle, err = keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := prf.NewPRFSet(handle)
	if err != nil {
		log.Fatal(err)
	}
	e, err := jobs.NewEncryptor(keys, jobs.WithNamespace("shop"), jobs.WithPRF(tokens))
	if err != nil {
		log.Fatal(err)
	}

	q := &sealedQueue{e: e, unique: map[string]bool{}}
	fmt.Println("enqueued:", q.enqueue(ctx, "mail:send", "1", []byte("to ada@example.org")))
	fmt.Println("again:", q.enqueue(ctx, "mail:send", "2", []byte("to ada@example.org")))
	fmt.Println("sealed:", jobs.IsSealed([]byte(q.stored[0].Body)))
	q.work(ctx, func(payload []byte) error {
		fmt.Printf("handled: %s\n", payload)
		return nil
	})

	// An attacker with write access to the queue combines two jobs.
	_ = q.enqueue(ctx, "mail:send", "3", []byte("to bob@example.org"))
	_ = q.enqueue(ctx, "user:delete", "4", []byte("eve"))
	q.stored[1].Body = q.stored[0].Body
	q.stored = q.stored[1:]
	q.work(ctx, func([]byte) error {
		fmt.Println("deleted the wrong user")
		return nil
	})
	fmt.Println("archived:", q.archive[0].Error)
	// Output:
	// enqueued: <nil>
	// again: duplicate
	// sealed: true
	// handled: to ada@example.org
	// archived: jobs: open the value: aead: the ciphertext is not authentic: altered, copied from elsewhere, or sealed under another key
}

// A token replaces a name that must not be read in the queue.
func ExampleTokens() {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	keys, err := aead.NewKeyring(handle)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	handle, err = keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		log.Fatal(err)
	}
	e, err := jobs.NewEncryptor(keys, jobs.WithPRF(set))
	if err != nil {
		log.Fatal(err)
	}
	hidden, err := e.Tokens().Token("shop.type", []byte("layoff:letter"))
	if err != nil {
		log.Fatal(err)
	}
	names := map[jobs.Token]string{}
	for _, name := range []string{"layoff:letter", "lunch:menu"} {
		tokens, err := e.Tokens().All("shop.type", []byte(name))
		if err != nil {
			log.Fatal(err)
		}
		for _, t := range tokens {
			names[t] = name
		}
	}
	fmt.Println(len(hidden.String()), names[hidden])
	// Output: 43 layoff:letter
}
