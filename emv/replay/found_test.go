package replay

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

// The data of a VERIFY over T=0 are never shown, however the card asks for
// them: after NULL bytes, byte by byte, or not at all.
func TestPINOverT0IsNotShown(t *testing.T) {
	for name, pairs := range map[string][]string{
		"at once":             {"0020008008", "20", "241234FFFFFFFFFF", "9000"},
		"after a NULL":        {"0020008008", "6020", "241234FFFFFFFFFF", "9000"},
		"first byte alone":    {"0020008008", "DF", "24", "20", "1234FFFFFFFFFF", "9000"},
		"NULL, then a byte":   {"0020008008", "60DF", "24", "6020", "1234FFFFFFFFFF", "60609000"},
		"refused at once":     {"0020008008", "6983", "241234FFFFFFFFFF", "9000"},
		"without its header":  {"241234FFFFFFFFFF", "9000"},
		"as a longer chunk":   {"0020008008", "DF", "2412", "20", "34FFFFFFFFFF", "9000"},
		"one after the other": {"0020008008", "DF", "24", "DF", "12", "DF", "34", "20", "FFFFFFFFFF", "9000"},
	} {
		r := Recording{Name: name, TPDU: true}
		for i := 0; i < len(pairs); i += 2 {
			c, err1 := hex.DecodeString(pairs[i])
			a, err2 := hex.DecodeString(pairs[i+1])
			if err1 != nil || err2 != nil {
				t.Fatal(name)
			}
			r.Exchanges = append(r.Exchanges, Exchange{c, a})
		}
		for _, strict := range []bool{true, false} {
			b, err := json.Marshal(Run(context.Background(), r, &Options{Strict: strict}))
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"1234", "34FF", "2412"} {
				if strings.Contains(string(b), secret) {
					t.Errorf("%s, strict %v: the report shows PIN data", name, strict)
				}
			}
		}
	}
}

// NULL bytes ahead of the procedure byte do not part a command from its data.
func TestNULLBeforeProcedureByte(t *testing.T) {
	r := Recording{Name: "null", TPDU: true}
	for _, x := range [][2]string{{"00A404000E", "60A4"}, {"315041592E5359532E4444463031", "60606A81"}} {
		c, _ := hex.DecodeString(x[0])
		a, _ := hex.DecodeString(x[1])
		r.Exchanges = append(r.Exchanges, Exchange{c, a})
	}
	rep := Run(context.Background(), r, nil)
	if rep.Entry != "selection" || rep.Outcome != OutcomeUnusable || rep.Unused != 0 || rep.LastCommand != "315041592E5359532E4444463031" {
		t.Errorf("%+v", rep)
	}
}
