package bdk_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
	"tillbridge/p2pe/internal/derive"
)

// vector is one vector of any set. Every field must be asked for by name; what
// a test did not use and does not know fails it.
type vector struct {
	t      *testing.T
	fields map[string]any
	used   map[string]bool
}

func read(t *testing.T, set string, run func(v *vector)) {
	n := 0
	for _, file := range vectortest.Files(t, "p2pe", set) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Vectors []map[string]any `json:"vectors"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for i, fields := range doc.Vectors {
			name, _ := fields["id"].(string)
			if name == "" {
				name = fmt.Sprint(i)
			}
			t.Run(name, func(t *testing.T) {
				v := &vector{t, fields, map[string]bool{}}
				for _, note := range []string{"id", "source", "origin", "note", "rule", "kind", "usage_name", "verified", "hint", "must"} {
					v.used[note] = true
				}
				run(v)
				for name := range fields {
					if !v.used[name] {
						t.Errorf("field %q is not checked", name)
					}
				}
			})
			n++
		}
	}
	vectortest.Ran(t, set, n)
}

func (v *vector) has(name string) bool { x, ok := v.fields[name]; return ok && x != nil }

func (v *vector) text(name string) string {
	v.used[name] = true
	s, _ := v.fields[name].(string)
	return s
}

func (v *vector) hex(name string) []byte {
	v.t.Helper()
	b, err := hex.DecodeString(v.text(name))
	if err != nil {
		v.t.Fatalf("%s is not hex", name)
	}
	return b
}

// same compares when the vector has the field.
func (v *vector) same(name string, got []byte) {
	v.t.Helper()
	if v.has(name) {
		if want := v.hex(name); !bytes.Equal(got, want) {
			v.t.Errorf("%s differs", name)
		}
	}
}

func (v *vector) base(scheme p2pe.Scheme) *bdk.Base {
	v.t.Helper()
	b, err := bdk.New(scheme, v.hex("bdk"))
	if err != nil {
		v.t.Fatal(err)
	}
	return b
}

func must[T any](t *testing.T) func(T, error) T {
	return func(x T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

func (v *vector) transaction(scheme p2pe.Scheme) *dukpt.Transaction {
	v.t.Helper()
	base := v.base(scheme)
	ksn := must[p2pe.KSN](v.t)(p2pe.ParseKSN(v.text("ksn")))
	initial := must[[]byte](v.t)(base.Initial(ksn))
	v.same("ik", initial)
	t := must[*dukpt.Transaction](v.t)(base.Transaction(ksn))
	v.same("txn_key", derive.Reveal(t))
	if t.KSN() != ksn {
		v.t.Errorf("serial number %s", t.KSN())
	}
	return t
}

func zeroPad(b []byte, size int) []byte {
	b = append([]byte(nil), b...)
	for len(b)%size != 0 {
		b = append(b, 0)
	}
	return b
}

func cbc(c cipher.Block, plain []byte) []byte {
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(c, make([]byte, c.BlockSize())).CryptBlocks(out, plain)
	return out
}

// retailMAC is ISO 9797-1 algorithm 3 (ANSI X9.19) with zero padding.
func retailMAC(key, data []byte) []byte {
	single := derive.TDESCipher(append(append([]byte(nil), key[:8]...), key[:8]...))
	chain := cbc(single, zeroPad(data, 8))
	last := chain[len(chain)-8:]
	// Decrypt under the right half, encrypt under the left: as one, from the last chain value.
	out := make([]byte, 8)
	derive.TDESCipher(append(append([]byte(nil), key[8:]...), key[8:]...)).Decrypt(out, last)
	single.Encrypt(out, out)
	return out
}

func TestVectorsDUKPTTDES(t *testing.T) {
	read(t, "dukpt-tdes", func(v *vector) {
		if v.text("kind") == "counter" {
			v.used["valid_counters"] = true
			if n, _ := v.fields["valid_counters"].(float64); n != derive.TDESTotal {
				v.t.Errorf("%v counters", n)
			}
			return
		}
		if v.text("kind") != "" {
			v.t.Fatalf("kind %q is not known", v.text("kind"))
		}
		tx := v.transaction(p2pe.SchemeTDESDUKPT)
		v.used["initial_ksn"] = true
		if v.has("pin") {
			key := must[dukpt.Key](v.t)(pin.Key(tx, dukpt.TDES2))
			block := must[[]byte](v.t)(pin.Encode(0, v.text("pin"), v.text("pan"), nil))
			v.same("clear_pin_block_iso0", block)
			sealed := must[[]byte](v.t)(pin.Encipher(key.Bytes(), block, v.text("pan")))
			v.same("encrypted_pin_block", sealed)
			opened := must[[]byte](v.t)(pin.Decipher(key.Bytes(), sealed, v.text("pan")))
			if p := must[string](v.t)(pin.Decode(0, opened, v.text("pan"))); p != v.text("pin") {
				v.t.Error("the PIN does not come back")
			}
		}
		data := []byte(v.text("data_ascii"))
		for _, d := range []struct {
			name      string
			direction dukpt.Direction
		}{{"request", dukpt.Request}, {"response", dukpt.Response}} {
			key := must[dukpt.Key](v.t)(dukpt.DataKey(tx, d.direction))
			v.same("data_"+d.name+"_ecdk_cbc_iv0_zeropad", cbc(derive.TDESCipher(key.Bytes()), zeroPad(data, 8)))
			mac := must[dukpt.Key](v.t)(dukpt.MACKey(tx, d.direction))
			v.same("mac_"+d.name+"_4", retailMAC(mac.Bytes(), data)[:4])
			cmac := derive.NewCMAC(derive.TDESCipher(mac.Bytes()))
			v.same("tdes_cmac_"+d.name, cmac.Append(nil, data))
		}
	})
}

func TestVectorsDUKPTAES(t *testing.T) {
	read(t, "dukpt-aes", func(v *vector) {
		switch kind := v.text("kind"); kind {
		case "":
			v.aesTransaction()
		case "counter":
			v.used["valid_counters"] = true
			if n, _ := v.fields["valid_counters"].(float64); n != derive.AESTotal {
				v.t.Errorf("%v counters", n)
			}
		case "update_key":
			k := must[dukpt.KeyType](v.t)(dukpt.ParseKeyType(v.text("key_type")))
			key := must[dukpt.Key](v.t)(bdk.UpdateKey(v.hex("ik"), v.hex("ik_id"), k))
			v.same("update_key", key.Bytes())
			if c := v.text("counter"); c != "FFFFFFFF" {
				v.t.Errorf("counter %s", c)
			}
			// The device has the same one.
			state := must[*dukpt.State](v.t)(dukpt.Load(v.hex("ik"), p2pe.KSN(v.text("ik_id")+"00000000")))
			device := must[dukpt.Key](v.t)(state.UpdateKey(k))
			v.same("update_key", device.Bytes())
			derived := append([]byte(nil), v.hex("ik")...)
			id := v.hex("ik_id")
			derive.AESWalk(derived, uint32(id[4])<<24|uint32(id[5])<<16|uint32(id[6])<<8|uint32(id[7]), 0xFFFFFFFF)
			v.same("derivation_key", derived)
		case "working_key":
			ksn := must[p2pe.KSN](v.t)(p2pe.ParseKSN(v.text("ksn")))
			tx := derive.Open(p2pe.SchemeAESDUKPT, ksn.Bytes(), v.hex("txn_key"))
			v.same("working_key", v.working(tx, v.text("usage"), v.text("key_type")))
		default:
			v.t.Fatalf("kind %q is not known", kind)
		}
	})
}

func (v *vector) working(tx *dukpt.Transaction, usage, keyType string) []byte {
	v.t.Helper()
	var u uint16
	if _, err := fmt.Sscanf(usage, "%04x", &u); err != nil {
		v.t.Fatalf("usage %q", usage)
	}
	k := must[dukpt.KeyType](v.t)(dukpt.ParseKeyType(keyType))
	if u == derive.UsagePIN {
		key := must[dukpt.Key](v.t)(pin.Key(tx, k))
		return key.Bytes()
	}
	key := must[dukpt.Key](v.t)(dukpt.Working(tx, dukpt.Usage(u), k))
	return key.Bytes()
}

func (v *vector) aesTransaction() {
	tx := v.transaction(p2pe.SchemeAESDUKPT)
	if id := v.text("ik_id"); id != "" && !strings.HasPrefix(string(tx.KSN()), id) {
		v.t.Errorf("id %s", id)
	}
	v.used["usage"], v.used["working_keys"] = true, true
	usages, _ := v.fields["usage"].(map[string]any)
	keys, _ := v.fields["working_keys"].(map[string]any)
	for name, want := range keys {
		what, kind, _ := strings.Cut(name, "_")
		usage, _ := usages[what].(string)
		if usage == "" {
			usage = map[string]string{"pin": "1000", "cmac": "2000", "hmac": "2000", "mac": "2000", "data": "3000"}[what]
		}
		if got := strings.ToUpper(hex.EncodeToString(v.working(tx, usage[:min(4, len(usage))], kind))); got != want {
			v.t.Errorf("working key %s differs", name)
		}
	}
	if v.has("pin") {
		pan, number := v.text("pan"), v.text("pin")
		field := must[[]byte](v.t)(pin.PANField(pan))
		v.same("iso4_pan_field", field)
		block := v.hex("iso4_pin_field")
		if p := must[string](v.t)(pin.Decode(4, block, pan)); p != number {
			v.t.Error("the PIN does not come back")
		}
		made := must[[]byte](v.t)(pin.Encode(4, number, pan, bytes.NewReader(nibbles(block[8:]))))
		v.same("iso4_pin_field", made)
		key := must[dukpt.Key](v.t)(pin.Key(tx, dukpt.AES128))
		sealed := must[[]byte](v.t)(pin.Encipher(key.Bytes(), block, pan))
		v.same("encrypted_pin_block_iso4", sealed)
	}
}

func nibbles(b []byte) []byte {
	var n []byte
	for _, c := range b {
		n = append(n, c>>4, c&15)
	}
	return n
}

func TestVectorsDUKPTRandom(t *testing.T) {
	read(t, "dukpt-random", func(v *vector) {
		kind := v.text("kind")
		if kind == "tdes" {
			tx := v.transaction(p2pe.SchemeTDESDUKPT)
			data := must[dukpt.Key](v.t)(dukpt.DataKey(tx, dukpt.Request))
			v.same("data_request_cbc_iv0", cbc(derive.TDESCipher(data.Bytes()), v.hex("data_request_plain")))
			mac := must[dukpt.Key](v.t)(dukpt.MACKey(tx, dukpt.Request))
			v.same("mac_request_x9_19_4bytes", retailMAC(mac.Bytes(), v.hex("data_request_plain"))[:4])
			v.device(tx)
			return
		}
		if kind != "aes128" && kind != "aes192" && kind != "aes256" {
			v.t.Fatalf("kind %q is not known", kind)
		}
		tx := v.transaction(p2pe.SchemeAESDUKPT)
		if want := kind[3:]; fmt.Sprint(8*len(derive.Reveal(tx))) != want {
			v.t.Errorf("key of %d bits", 8*len(derive.Reveal(tx)))
		}
		plain := v.hex("plain")
		for _, size := range []string{"128", "192", "256"} {
			if name := "data_request_aes" + size + "_cbc_iv0"; v.has(name) {
				c := must[cipher.Block](v.t)(aes.NewCipher(v.working(tx, "3000", "AES"+size)))
				v.same(name, cbc(c, plain))
			}
			if name := "cmac_request_aes" + size; v.has(name) {
				c := must[cipher.Block](v.t)(aes.NewCipher(v.working(tx, "2000", "AES"+size)))
				v.same(name, derive.NewCMAC(c).Append(nil, plain))
			}
			if name := "hmac_sha256_request_hmac" + size; v.has(name) {
				h := hmac.New(sha256.New, v.working(tx, "2000", "HMAC"+size))
				h.Write(plain)
				v.same(name, h.Sum(nil))
			}
		}
		v.device(tx)
	})
}

// device lets an originating device reach the same key, where its counter is
// near enough to walk there.
func (v *vector) device(host *dukpt.Transaction) {
	v.t.Helper()
	counter, _ := host.KSN().Counter()
	if counter > 1<<14 {
		return
	}
	base := v.base(host.Scheme())
	initial := must[[]byte](v.t)(base.Initial(host.KSN()))
	state := must[*dukpt.State](v.t)(dukpt.Load(initial, zeroed(host.KSN())))
	for {
		tx := must[*dukpt.Transaction](v.t)(state.Next())
		if c, _ := tx.KSN().Counter(); c < counter {
			continue
		}
		if tx.KSN() != host.KSN() || !bytes.Equal(derive.Reveal(tx), derive.Reveal(host)) {
			v.t.Errorf("the device's key for %s differs from the host's", host.KSN())
		}
		return
	}
}

func zeroed(k p2pe.KSN) p2pe.KSN {
	b := k.Full().Bytes()
	if len(b) == 12 {
		copy(b[8:], make([]byte, 4))
	} else {
		b[7] &= 0xE0
		b[8], b[9] = 0, 0
	}
	return p2pe.KSNOf(b)
}

func TestVectorsPINBlock(t *testing.T) {
	read(t, "pinblock", func(v *vector) {
		v.used["format"] = true
		block, pan, number := v.hex("block"), v.text("pan"), v.text("pin")
		if kind := v.text("kind"); kind == "negative" {
			format := int(block[0] >> 4)
			if p, err := pin.Decode(format, block, pan); err == nil {
				v.t.Errorf("accepted, %d digits", len(p))
			}
			return
		} else if kind != "" {
			v.t.Fatalf("kind %q is not known", kind)
		}
		f, ok := v.fields["format"].(float64)
		if !ok {
			v.t.Fatal("no format")
		}
		format := int(f)
		switch format {
		case 0, 1, 2, 3:
			if p := must[string](v.t)(pin.Decode(format, block, pan)); p != number {
				v.t.Error("another PIN")
			}
			var random []byte
			if format == 1 || format == 3 {
				clear := append([]byte(nil), block...)
				if format == 3 { // take the fill out of the block, from under the number
					other := must[[]byte](v.t)(pin.Encode(0, number, pan, nil))
					for i := range clear {
						clear[i] ^= other[i]
					}
					for i, n := range nibbles(clear)[2+len(number):] {
						_ = i
						random = append(random, n^0xF)
					}
				} else {
					random = nibbles(clear)[2+len(number):]
				}
			}
			v.same("block", must[[]byte](v.t)(pin.Encode(format, number, pan, bytes.NewReader(random))))
		case 4:
			if v.has("pan_field") {
				v.same("pan_field", must[[]byte](v.t)(pin.PANField(pan)))
			}
			if v.has("pin_field_prefix") {
				made := must[[]byte](v.t)(pin.Encode(4, number, pan, bytes.NewReader(make([]byte, 64))))
				v.same("pin_field_prefix", made[:8])
			}
			if v.has("pin_field") {
				field := v.hex("pin_field")
				if p := must[string](v.t)(pin.Decode(4, field, pan)); p != number {
					v.t.Error("another PIN")
				}
				if v.has("key") {
					key := v.hex("key")
					c := must[cipher.Block](v.t)(aes.NewCipher(key))
					a := make([]byte, 16)
					c.Encrypt(a, field)
					v.same("block_a", a)
					for i, x := range must[[]byte](v.t)(pin.PANField(pan)) {
						a[i] ^= x
					}
					v.same("block_b", a)
					v.same("block", must[[]byte](v.t)(pin.Encipher(key, field, pan)))
				}
			}
		default:
			v.t.Fatalf("format %d is not known", format)
		}
	})
}
