package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"sync"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/redistest"
)

// newAESQueue returns a queue whose payloads are sealed with AES-GCM and nothing else. It seals into memory that is used
// again, and opens into new memory, because a handler may keep it. No implementation can do less.
func newAESQueue(server *redistest.Server, db int) (*queue, error) {
	block, err := aes.NewCipher(payload(32))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	q, err := newQueue("AES-GCM", server, db, nil)
	if err != nil {
		return nil, err
	}
	q.gcm = gcm
	q.client = &aesClient{enqueuer: q.client, gcm: gcm}
	return q, nil
}

type aesClient struct {
	enqueuer
	gcm    cipher.AEAD
	memory sync.Pool // of *[]byte
}

func (c *aesClient) EnqueueContext(ctx context.Context, t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	m, ok := c.memory.Get().(*[]byte)
	if !ok {
		m = new([]byte)
	}
	*m = c.gcm.Seal((*m)[:0], nil, t.Payload(), nil)
	info, err := c.enqueuer.EnqueueContext(ctx, asynq.NewTask(t.Type(), *m), opts...)
	c.memory.Put(m) // asynq has encoded it
	return info, err
}

// aesHandler opens each task for next.
func aesHandler(gcm cipher.AEAD, next asynq.Handler) asynq.Handler {
	return asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		opened, err := gcm.Open(nil, nil, t.Payload(), nil)
		if err != nil {
			return err
		}
		return next.ProcessTask(ctx, asynq.NewTask(t.Type(), opened))
	})
}
