package dukpt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"testing"
	"time"

	"tillbridge/p2pe"
)

// next runs Next over whole key sets; a new one is loaded outside the clock.
func next(b *testing.B, size int, serial p2pe.KSN, use func(*Transaction)) {
	b.ReportAllocs()
	s, _ := Load(initial(size), serial)
	for b.Loop() {
		tx, err := s.Next()
		if err != nil {
			b.StopTimer()
			s, _ = Load(initial(size), serial)
			b.StartTimer()
			continue
		}
		if use != nil {
			use(tx)
		}
	}
}

// floor measures the cipher work of one step in the same run: setups key
// schedules and blocks blocks.
func floor(b *testing.B, run func()) {
	const rounds = 20000
	start := time.Now()
	for range rounds {
		run()
	}
	perStep := float64(time.Since(start).Nanoseconds()) / rounds
	b.ReportMetric(perStep, "floor-ns/op")
	b.ReportMetric(perStep/(float64(b.Elapsed().Nanoseconds())/float64(b.N)), "floor/op")
}

// A step of the state costs, on average, one derivation and half a key set-up:
// every second counter is odd and derives nothing.
func BenchmarkNextAES128(b *testing.B) {
	next(b, 16, kinds[1].serial, nil)
	key, block := initial(16), make([]byte, 16)
	half := false
	floor(b, func() {
		c := cipher.Block(nil)
		if half = !half; half {
			c, _ = aes.NewCipher(key)
			c.Encrypt(block, block)
			c.Encrypt(block, block)
		}
	})
}

func BenchmarkNextAES256(b *testing.B) { next(b, 32, kinds[3].serial, nil) }

func BenchmarkNextAES128WithKeys(b *testing.B) {
	next(b, 16, kinds[1].serial, func(tx *Transaction) {
		Working(tx, DataEncrypt, AES128)
		Working(tx, MACGenerate, AES128)
	})
}

func BenchmarkNextTDES(b *testing.B) {
	next(b, 16, kinds[0].serial, nil)
	key, block := initial(8), make([]byte, 8)
	half := false
	floor(b, func() {
		if half = !half; half {
			for range 2 {
				c, _ := des.NewCipher(key)
				c.Encrypt(block, block)
				c.Encrypt(block, block)
			}
		}
	})
}

func BenchmarkNextTDESWithDataKey(b *testing.B) {
	next(b, 16, kinds[0].serial, func(tx *Transaction) { DataKey(tx, Request) })
}
