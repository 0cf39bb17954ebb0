package oda_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// Every profile of the virtual card that has a chain passes with its own CA
// key and fails with another card's.
func TestVirtualCardsChainsAreGood(t *testing.T) {
	ca, err := virtualcard.NewCA(5)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range virtualcard.Profiles() {
		if p.ODA == virtualcard.ODANone {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			c, err := virtualcard.New(&virtualcard.Options{CA: ca, Seed: 6}, p)
			if err != nil {
				t.Fatal(err)
			}
			aid, _ := hex.DecodeString(p.AID)
			send := func(head string, data []byte) []byte {
				cmd, _ := hex.DecodeString(head)
				if data != nil {
					cmd = append(append(cmd, byte(len(data))), data...)
				}
				out, err := c.Transmit(t.Context(), append(cmd, 0))
				if err != nil || string(out[len(out)-2:]) != "\x90\x00" {
					t.Fatalf("%s: %v", head, err)
				}
				return out[:len(out)-2]
			}
			values := map[tlv.Tag][]byte{}
			keep := func(b []byte) {
				for it := tlv.IterDeep(b); it.Next(); {
					values[it.Tag()] = it.Value()
				}
			}
			fci := send("00A40400", aid)
			pdol, _ := tlv.Find(fci, 0x9F38)
			d, _ := tlv.ParseDOL(pdol)
			pdolData := d.Append(nil, func(tlv.Tag) ([]byte, bool) { return nil, false })
			gpo := send("80A80000", tlv.Append(nil, 0x83, pdolData))
			if v, ok := tlv.Get(gpo, 0x80); ok {
				values[0x82], values[0x94] = v[:2], v[2:]
			}
			keep(gpo)
			var records []oda.Record
			for afl := values[0x94]; len(afl) >= 4; afl = afl[4:] {
				for n := afl[1]; n <= afl[2]; n++ {
					rec := send(fmt.Sprintf("00B2%02X%02X", n, afl[0]|4), nil)
					if n < afl[1]+afl[3] {
						records = append(records, oda.Record{SFI: afl[0] >> 3, Data: rec})
					}
					keep(rec)
				}
			}
			method := oda.Select([2]byte(values[0x82]), 0xC8, true)
			static, err := oda.StaticData(method, records, values[0x9F4A], values[0x82])
			if err != nil {
				t.Fatal(err)
			}
			rid, _ := oda.RIDOf(aid)
			store := oda.NewStore(oda.Test)
			if err := store.Add(oda.Test, oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()}); err != nil {
				t.Fatal(err)
			}
			data := oda.Data{AID: aid, Static: static, Date: oda.Date{Year: 2026, Month: 11, Day: 30},
				Get: func(t tlv.Tag) ([]byte, bool) { v, ok := values[t]; return v, ok }}
			if method == oda.SDA {
				if _, err := store.SDA(data); err != nil {
					t.Fatal(err)
				}
				return
			}
			key, err := store.CardKey(method, data)
			if err != nil {
				t.Fatal(err)
			}
			un := []byte{1, 2, 3, 4}
			signed := send("00880000", un)
			v, ok := tlv.Get(signed, 0x80)
			if !ok {
				v, _ = tlv.Get(signed, 0x77, 0x9F4B)
			}
			if _, err := key.DDA(v, un); err != nil {
				t.Error(err)
			}
			if method != oda.CDA {
				return
			}
			cdol, _ := tlv.ParseDOL(values[0x8C])
			cdolData := cdol.Append(nil, func(tag tlv.Tag) ([]byte, bool) { return un, tag == 0x9F37 })
			answer := send("80AE9000", cdolData)
			body, _ := tlv.Get(answer, 0x77)
			keep(body)
			in := oda.CDAInput{Signed: values[0x9F4B], UN: un, CID: values[0x9F27][0], PDOL: pdolData, CDOL1: cdolData, Response: body}
			if _, err := key.CDA(in); err != nil {
				t.Errorf("first cryptogram: %v", err)
			}
		})
	}
}
