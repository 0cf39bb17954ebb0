package queue

import (
	"bytes"
	"errors"
	"maps"
	"testing"
	"time"
)

func TestStoredFormsComeBackAsTheyWere(t *testing.T) {
	r := Record{ID: "pay_1", Version: 3, Number: 9, Created: time.Unix(7, 5), Body: []byte("body"), Index: map[string]string{"status": "", "reg": "1"}}
	got, err := parseRecord("pay_1", appendRecord(nil, &r))
	if err != nil || got.Version != 3 || got.Number != 9 || !got.Created.Equal(r.Created) || !bytes.Equal(got.Body, r.Body) || !maps.Equal(got.Index, r.Index) {
		t.Errorf("record %+v %v", got, err)
	}
	m := Message{Seq: 4, OrderKey: "k", Time: time.Unix(7, 5), Body: []byte("body")}
	v, hash := appendMessage(nil, &m, 2, [32]byte{1})
	back, topic, told, err := parseMessage(4, v)
	if err != nil || topic != 2 || told != hash || back.OrderKey != "k" || !bytes.Equal(back.Body, m.Body) || !back.Time.Equal(m.Time) {
		t.Errorf("message %+v %v", back, err)
	}
	if other, _ := appendMessage(nil, &m, 2, [32]byte{2}); bytes.Equal(other, v) {
		t.Error("the chain does not depend on the message before")
	}
}

func TestEveryBitOfAStoredMessageIsGuarded(t *testing.T) {
	before := [32]byte{1}
	v, _ := appendMessage(nil, &Message{Seq: 4, OrderKey: "k", Time: time.Unix(7, 5), Body: []byte("body")}, 2, before)
	for i := range len(v) * 8 {
		w := bytes.Clone(v)
		w[i/8] ^= 1 << (i % 8)
		_, _, told, err := parseMessage(4, w)
		if err == nil && link(before, 4, w[:len(w)-32]) == told {
			t.Errorf("bit %d changed unnoticed", i)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(appendRecord(nil, &Record{ID: "a", Version: 1, Body: []byte("b"), Index: map[string]string{"n": "v", "o": ""}})[:])
	f.Add([]byte{})
	f.Add(appendCRC([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, appendCRC(bytes.Clone(b))} { // the second gets past the checksum
			r, err := parseRecord("a", v)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("error without a kind: %v", err)
				}
				continue
			}
			if again := appendRecord(nil, &r); !bytes.Equal(again, v) {
				t.Errorf("%x became %x", v, again)
			}
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	v, _ := appendMessage(nil, &Message{Seq: 1, OrderKey: "k", Body: []byte("b"), Time: time.Unix(1, 1)}, 1, [32]byte{})
	f.Add(v)
	f.Add(v[:len(v)-36])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, append(appendCRC(bytes.Clone(b)), make([]byte, 32)...)} {
			m, topic, _, err := parseMessage(1, v)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("error without a kind: %v", err)
				}
				continue
			}
			if again, _ := appendMessage(nil, &m, topic, [32]byte{}); !bytes.Equal(again[:len(again)-32], v[:len(v)-32]) {
				t.Errorf("%x became %x", v, again)
			}
		}
	})
}

func FuzzParseSmallValues(f *testing.F) {
	f.Add(state{seq: 1}.encode())
	f.Add(totals{1, 2, 3}.encode())
	f.Add(attempt{n: 1, set: time.Unix(0, 1), notBefore: time.Unix(0, 2), reason: "r", key: "k"}.encode())
	f.Add(claim{at: time.Unix(0, 1), digest: []byte{1}, id: "i"}.encode())
	f.Add(anchor{seq: 1}.encode())
	f.Add(orderEntry(1, "k", 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, appendCRC(bytes.Clone(b))} {
			same := func(what string, again []byte, err error) {
				if err != nil && !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: error without a kind: %v", what, err)
				}
				if err == nil && !bytes.Equal(again, v) {
					t.Errorf("%s: %x became %x", what, v, again)
				}
			}
			s, err := parseState(v)
			same("state", s.encode(), err)
			a, err := parseAttempt(v)
			same("attempt", a.encode(), err)
			c, err := parseClaim(v)
			same("claim", c.encode(), err)
			if v != nil {
				n, err := parseAnchor(v)
				same("anchor", n.encode(), err)
				d, err := parseTotals(v)
				same("totals", d.encode(), err)
			}
			if key, seq, ok := splitOrder(v); ok {
				same("order", orderEntry(uint16(v[0])<<8|uint16(v[1]), key, seq), nil)
			}
		}
	})
}
