package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"
)

// WaitingMessage is a message that a consumer has not settled, for people.
type WaitingMessage struct {
	Message
	Attempts  int       // failed so far
	NotBefore time.Time // of the next attempt; zero means as soon as its turn comes
	Reason    string    // of the last failure
}

// Waiting lists up to limit messages that the consumer has not settled, oldest first. Leases are not considered.
func (s *Store) Waiting(ctx context.Context, name string, limit int) (list []WaitingMessage, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, out, err := s.consumer(name)
	if err != nil {
		return nil, err
	}
	err = s.view(func(tx *Tx) error {
		prefix := binary.BigEndian.AppendUint16(nil, c.id)
		cur := tx.b.Bucket(bucketNames[bPend]).Cursor()
		for k, _ := cur.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix) && len(list) < limit; k, _ = cur.Next() {
			seq := binary.BigEndian.Uint64(k[len(prefix):])
			s.omu.Lock()
			_, acked := out.acked[seq]
			s.omu.Unlock()
			if acked {
				continue
			}
			m, err := tx.message(seq)
			if err != nil {
				return err
			}
			w := WaitingMessage{Message: m}
			if v := tx.get(bRetry, consumerSeq(c.id, seq)); v != nil {
				a, err := parseAttempt(v)
				if err != nil {
					return err
				}
				w.Attempts, w.NotBefore, w.Reason = int(a.n), a.notBefore, a.reason
			}
			list = append(list, w)
		}
		return nil
	})
	return list, err
}
