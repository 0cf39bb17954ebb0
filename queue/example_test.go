package queue_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"tillbridge/queue"
)

// A payment is claimed, recorded and announced in one commit; a consumer delivers the announcement.
func Example() {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := queue.Open(filepath.Join(dir, "store.db"), &queue.Options{
		Consumers: []queue.Consumer{{Name: "crm", Topic: "events"}},
	})
	if err != nil {
		panic(err)
	}
	defer s.Close()

	ctx := context.Background()
	err = s.Commit(ctx, func(tx *queue.Tx) error {
		if _, err := tx.Claim("register-1", "sale-4711", []byte("digest of the request"), "pay_1"); err != nil {
			return err
		}
		if _, err := tx.Put(queue.Record{ID: "pay_1", Body: []byte("sealed"), Index: map[string]string{"status": "pending"}}); err != nil {
			return err
		}
		_, err := tx.Append("events", "customer-7", []byte("sealed event"))
		return err
	})
	if err != nil {
		panic(err)
	}

	list, err := s.Lease(ctx, "crm", 10)
	if err != nil {
		panic(err)
	}
	for _, d := range list {
		fmt.Printf("message %d for %s: %s\n", d.Seq, d.OrderKey, d.Body)
		if err := s.Ack(d); err != nil {
			panic(err)
		}
	}
	// Output: message 1 for customer-7: sealed event
}
