package queue

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A payment as the engine stores it: claim, record with three index entries, one event of 1 KiB.
var (
	benchRecord = bytes.Repeat([]byte("r"), 400)
	benchEvent  = bytes.Repeat([]byte("e"), 1024)
)

const benchBytes = 400 + 1024 + 120 // with the keys and index values

func benchPayment(tx *Tx, i int64) error {
	id := fmt.Sprintf("pay_%09d", i)
	if _, err := tx.Claim("register-1", id, benchRecord[:32], id); err != nil {
		return err
	}
	if _, err := tx.Put(Record{ID: id, Body: benchRecord, Index: map[string]string{"status": "pending", "register": "1", "reference": id}}); err != nil {
		return err
	}
	_, err := tx.Append("events", id, benchEvent)
	return err
}

// rawRate appends n pieces of the same size to a file with one fdatasync each and returns pieces per second. With
// grown the file has its size already, as most of a bbolt file has.
func rawRate(b *testing.B, n int, grown bool) float64 {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "raw"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	piece := bytes.Repeat([]byte("x"), benchBytes)
	if grown {
		if _, err := f.Write(make([]byte, n*len(piece))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	for i := range n {
		if _, err := f.WriteAt(piece, int64(i*len(piece))); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(begin).Seconds()
}

// BenchmarkCommit: payments per second beside raw append + fdatasync of the same bytes by one writer, in the same run.
// x-raw is the ratio to appending to a growing file, x-grown to writing inside one that has its size.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			b.ReportAllocs()
			s := open(b, nil)
			n := min(max(b.N, 100), 2000)
			raw, grown := rawRate(b, n, false), rawRate(b, n, true)
			var next, commits atomic.Int64
			took := make([][]time.Duration, writers)
			var wg sync.WaitGroup
			b.ResetTimer()
			begin := time.Now()
			for g := range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						t := time.Now()
						if err := s.Commit(context.Background(), func(tx *Tx) error { return benchPayment(tx, i) }); err != nil {
							b.Error(err)
							return
						}
						took[g] = append(took[g], time.Since(t))
						commits.Add(1)
					}
				})
			}
			wg.Wait()
			rate := float64(b.N) / time.Since(begin).Seconds()
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			raw, grown = max(raw, rawRate(b, n, false)), max(grown, rawRate(b, n, true))
			b.ReportMetric(rate/raw, "x-raw")
			b.ReportMetric(rate/grown, "x-grown")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkLife: enqueue, lease, acknowledge, with the acknowledgement riding on a later commit.
func BenchmarkLife(b *testing.B) {
	b.ReportAllocs()
	s := open(b, nil)
	n := min(max(b.N, 100), 2000)
	raw := rawRate(b, n, false)
	b.ResetTimer()
	begin := time.Now()
	for range b.N {
		if err := s.Commit(context.Background(), func(tx *Tx) error { _, err := tx.Append("events", "k", benchEvent); return err }); err != nil {
			b.Fatal(err)
		}
		if err := s.Ack(leaseOne(b, s)); err != nil {
			b.Fatal(err)
		}
	}
	rate := float64(b.N) / time.Since(begin).Seconds()
	b.StopTimer()
	b.ReportMetric(rate/max(raw, rawRate(b, n, false)), "x-raw")
}

// BenchmarkBacklog: one durable append, and one lease with acknowledgement, on top of a backlog.
func BenchmarkBacklog(b *testing.B) {
	sizes := []int{1_000, 100_000}
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		sizes = append(sizes, 1_000_000)
	}
	for _, size := range sizes {
		s := open(b, &Options{AckDelay: time.Hour, AckBatch: 1 << 30})
		fillBacklog(b, s, size)
		b.Run(fmt.Sprint("append/pending=", size), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if err := s.Commit(context.Background(), func(tx *Tx) error {
					_, err := tx.Append("events", fmt.Sprint("late", i%100), benchEvent[:900])
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
			info, err := os.Stat(s.path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(size), "file-B/msg")
		})
		b.Run(fmt.Sprint("lease/pending=", size), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				d := leaseOne(b, s)
				s.omu.Lock()
				delete(s.out[s.consumers["crm"].id].leases, d.Seq)
				s.omu.Unlock()
			}
		})
		b.Run(fmt.Sprint("depth/pending=", size), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := s.Depth(context.Background(), "crm"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("verify/pending=", size), func(b *testing.B) {
			for range b.N {
				if _, err := s.Verify(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("open/pending=", size), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				n, err := Open(s.path, &s.o)
				if err != nil {
					b.Fatal(err)
				}
				s = n
			}
		})
		s.Close()
	}
}

func fillBacklog(b *testing.B, s *Store, size int) {
	b.Helper()
	for done := 0; done < size; {
		if err := s.Commit(context.Background(), func(tx *Tx) error {
			for range min(5000, size-done) {
				if _, err := tx.Append("events", fmt.Sprint("customer-", done%5000), benchEvent[:900]); err != nil {
					return err
				}
				done++
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessageCodec(b *testing.B) {
	m := Message{Seq: 7, OrderKey: "customer-7", Time: time.Unix(1, 0), Body: benchEvent}
	v, _ := appendMessage(nil, &m, 1, [32]byte{})
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(v)))
		buf := make([]byte, 0, len(v))
		for range b.N {
			buf, _ = appendMessage(buf[:0], &m, 1, [32]byte{})
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(v)))
		for range b.N {
			if _, _, _, err := parseMessage(7, v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
