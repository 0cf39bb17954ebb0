package abecs

import (
	"strings"
	"testing"
	"testing/synctest"
)

// aidRecord is a table record for one application of seven bytes.
func aidRecord(acquirer, record, aid string) string {
	return strings.Join([]string{"284", "1", acquirer, record, "07", aid + strings.Repeat("0", 18), "01", "CREDITO         ", "03",
		"008C", "008D", "0096", "250", "978", "2", "MERCHANT0000001", "5999", "TERM0001", "E06800", "7000F0A001", "22",
		"DC4000A800", "0010000000", "DC4004F800", "00000000", "R", "1", "1", "00001000", "00000000", "00000500", "0096", "0",
		strings.Repeat("0", 40), strings.Repeat("0", 40), "Y1Z1Y3Z3"}, "")
}

func TestTables(t *testing.T) {
	record := aidRecord("02", "07", "A0000000031010")
	if len(record) != 284 {
		t.Fatalf("the test's record has %d characters", len(record))
	}
	synctest.Test(t, func(t *testing.T) {
		file := t.TempDir() + "/state.json"
		p := newPad(t, Options{Clear: true, State: file})
		h := join(t, p)
		h.ask([]byte("OPN"))
		if st, _, _ := h.ask([]byte("TLR00201")); st != "TLR010" {
			t.Errorf("TLR before TLI: %s", st)
		}
		if st, _, _ := h.ask([]byte("TLI012000000000123")); st != "TLI020" {
			t.Errorf("TLI with another version: %s", st)
		}
		if st, _, _ := h.ask([]byte("TLR28601" + record)); st != "TLR000" {
			t.Errorf("TLR: %s", st)
		}
		if st, _, _ := h.ask([]byte("TLE")); st != "TLE000" {
			t.Errorf("TLE: %s", st)
		}
		if st, l, _ := h.ask([]byte("GIX006\x00\x01\x00\x02\x93\x02")); st != "GIX000" || string(must(t, l, 0x9302)) != "0000000123" {
			t.Errorf("GIX 9302: %s %q", st, l)
		}
		if st, _, _ := h.ask([]byte("TLI012000000000123")); st != "TLI000" {
			t.Errorf("TLI with the same version: %s", st)
		}
		if st, _, _ := h.ask([]byte("TLR28601" + record[:283] + "x")); st != "TLR000" && st != "TLR021" {
			t.Errorf("TLR of a strange record: %s", st)
		}
		if st, _, _ := h.ask([]byte("TLR00701004x")); st != "TLR021" && st != "TLR011" && st != "TLR010" {
			t.Errorf("TLR of a lie: %s", st)
		}
		p.Do(Step{Do: "insert", Card: "visa-credit"})
		if st, l, _ := h.ask(gcxOf("000000000700", "00000")); st != "GCX000" || string(must(t, l, outAIDInfo)) != "020701" {
			t.Errorf("GCX on loaded tables: %s %q", st, l)
		}
		again := newPad(t, Options{Clear: true, State: file})
		if v, _ := again.vault.version("02"); v != "0000000123" || len(again.applications()) != 1 {
			t.Errorf("tables after power-off: %q", v)
		}
	})
}
