package queuetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"tillbridge/queue"
)

// RunWriters lets n writers commit ops payments each at the same time: claim, record and message in one commit. It
// writes to mark after each commit that returned. A reader beside them writes what it sees as the head of the log.
func RunWriters(path string, n, ops int, mark *os.File) error {
	s, err := queue.Open(path, Options())
	if err != nil {
		return err
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			for i := range ops {
				if errs[g] = s.Commit(context.Background(), func(tx *queue.Tx) error { return payment(tx, g, i) }); errs[g] != nil {
					return
				}
				fmt.Fprintf(mark, "writer %d %d", g, i)
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for last := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			var head uint64
			if err := s.View(context.Background(), func(tx *queue.Tx) error { head, _ = tx.Head(); return nil }); err != nil {
				return
			}
			if head > last {
				fmt.Fprintf(mark, "saw %d", head)
				last = head
			}
		}
	})
	wg.Wait()
	close(stop)
	reader.Wait()
	return errors.Join(errs...)
}

func payment(tx *queue.Tx, g, i int) error {
	id := fmt.Sprintf("pay_%d_%d", g, i)
	if _, err := tx.Claim("register", id, nil, id); err != nil {
		return err
	}
	if _, err := tx.Put(queue.Record{ID: id, Body: []byte(id), Index: map[string]string{"writer": fmt.Sprint(g)}}); err != nil {
		return err
	}
	_, err := tx.Append(topic, fmt.Sprint("w", g), []byte(id))
	return err
}

// CheckWriters opens a store that RunWriters was writing and checks that each writer's payments are whole, in order,
// and at least as many as were said to be stored; and that nothing is gone that a reader saw.
func CheckWriters(path string, n int, said []int, saw uint64) error {
	s, err := queue.Open(path, Options())
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	report, err := s.Verify(ctx)
	if err != nil || len(report.Problems) > 0 {
		return fmt.Errorf("verify: %v %v", err, report.Problems)
	}
	return s.View(ctx, func(tx *queue.Tx) error {
		if head, _ := tx.Head(); head < saw {
			return fmt.Errorf("a reader saw message %d, the log ends at %d", saw, head)
		}
		msgs, err := tx.Read(topic, 0, 1<<30)
		if err != nil {
			return err
		}
		events := map[string][]string{}
		for _, m := range msgs {
			events[m.OrderKey] = append(events[m.OrderKey], string(m.Body))
		}
		claims := 0
		for g := range n {
			list, err := tx.List(queue.Query{Index: "writer", Value: fmt.Sprint(g), Limit: 1 << 30})
			if err != nil {
				return err
			}
			own := events[fmt.Sprint("w", g)]
			if len(list) < said[g] || len(own) != len(list) {
				return fmt.Errorf("writer %d: %d payments said to be stored, %d records, %d messages", g, said[g], len(list), len(own))
			}
			for i, r := range list {
				want := fmt.Sprintf("pay_%d_%d", g, i)
				id, _, err := tx.Claimed("register", want)
				if r.ID != want || own[i] != want || id != want {
					return fmt.Errorf("writer %d: payment %d is record %q, message %q, claim %q (%v)", g, i, r.ID, own[i], id, err)
				}
				claims++
			}
		}
		if int64(claims) != report.Claims {
			return fmt.Errorf("%d claims stored, %d belong to a payment", report.Claims, claims)
		}
		return nil
	})
}
