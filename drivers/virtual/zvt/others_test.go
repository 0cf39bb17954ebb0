package zvt

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The commands here have the form in which a register of others,
// bezahl-online/zvt, sends them: read off its source, as the program itself is
// in no registry that a build may rely on. It is stricter than the documents in
// what it can take: it knows only the commands below, reads a head of three
// bytes and then the whole body, and of a status information only the bitmaps
// listed.
var (
	othersKnow = []string{"8000", "04ff", "040f", "060f", "061e", "06d1", "06d3", "8483", "84a0"}
	othersRead = map[string]int{ // bitmap: length, 0 for a length of its own
		"04": 6, "0b": 3, "0c": 3, "0d": 2, "0e": 2, "17": 2, "19": 1, "22": 0, "27": 1, "29": 4, "2a": 15, "3b": 8,
		"3c": 0, "49": 2, "60": 0, "87": 2, "88": 3, "8a": 1, "8b": 0, "8c": 1, "a0": 1, "ba": 5,
	}
)

// talk sends a command and answers what comes until the terminal gives the
// word back; it returns all that came.
func (r *register) talk(command string) (all []string) {
	r.t.Helper()
	r.send(command)
	for {
		a := r.next()
		if len(a) < 4 {
			r.t.Fatalf("%s: the line ended after %d messages", command, len(all))
		}
		if !slices.Contains(othersKnow, a[:4]) {
			r.t.Errorf("%s: %s is not known to the other register", command, a[:4])
		}
		all = append(all, a)
		switch {
		case len(all) == 1 && a != "800000":
			return all // refused
		case len(all) > 1:
			r.send("80 00 00")
			if a[:4] == "060f" || a[:4] == "061e" {
				return all
			}
		}
	}
}

// fields takes the bitmaps of a message apart as that register does.
func fields(t *testing.T, apdu string) map[string]string {
	t.Helper()
	body := apdu[6:]
	if apdu[4:6] == "ff" {
		body = apdu[10:]
	}
	out := map[string]string{}
	for body != "" {
		id := body[:2]
		body = body[2:]
		if id == "06" {
			out[id] = body
			return out
		}
		n, known := othersRead[id]
		if !known {
			t.Fatalf("bitmap %s is not known to the other register", id)
		}
		if n == 0 {
			digits := 2
			if id == "3c" || id == "60" {
				digits = 3
			}
			for range digits {
				n = 10*n + int(body[1]-'0')
				body = body[2:]
			}
		}
		out[id], body = body[:2*n], body[2*n:]
	}
	return out
}

func TestARegisterOfOthers(t *testing.T) {
	p := serve(t, Options{Password: "123456"})
	r := dial(t, p.ready["addr"].(string))

	// 06 00: receipts by the register, intermediate texts, amount and
	// administration locked on the terminal; blocks of text are permitted. The
	// completion has the layout of the one captured from a real terminal.
	all := r.talk("06 00 10 123456 3E 0978 03 03 06 06 26 04 0A 02 06 D3")
	if end := all[len(all)-1]; end != "060f0a19002952000001490978" {
		t.Errorf("registration: %s", end)
	}

	// 06 01 with the amount alone.
	p.must(`{"do":"tap","card":"debit"}`)
	all = r.talk("06 01 07 04 000000001250")
	var status map[string]string
	kinds := map[string]int{}
	for _, a := range all {
		kinds[a[:4]]++
		if a[:4] == "040f" {
			status = fields(t, a)
		}
	}
	if kinds["040f"] != 1 || kinds["04ff"] == 0 || kinds["06d3"] == 0 || kinds["060f"] != 1 {
		t.Errorf("a sale brings %v", kinds)
	}
	if status["27"] != "00" || status["04"] != "000000001250" || status["29"] != "52000001" || status["49"] != "0978" {
		t.Errorf("the register believes %s, %s at %s", status["27"], status["04"], status["29"])
	}
	if pan := status["22"]; len(pan)%4 != 0 || !strings.HasPrefix(pan, "eeee") {
		t.Errorf("a number that is no row of groups of four, or not masked: %d digits", len(pan))
	}
	record := func() map[string]any {
		records := p.books("records").([]any)
		return records[len(records)-1].(map[string]any)
	}
	if b := record(); b["amount"] != 1250.0 || b["result"] != 0.0 || number(t, status["87"]) != b["receipt"] || number(t, status["0b"]) != b["trace"] {
		t.Errorf("the terminal's books say %v, the register heard receipt %s, trace %s", b, status["87"], status["0b"])
	}

	// A customer who cancels: 6C, the word for it that this register has.
	p.must(`{"do":"cancel"}`)
	all = r.talk("06 01 07 04 000000000999")
	if end := all[len(all)-1]; end != "061e016c" {
		t.Errorf("cancelled: %s", end)
	}
	if p.books("sales") != 1.0 {
		t.Error("a cancelled payment is in the books")
	}

	// 05 01 with password and service byte.
	if all = r.talk("05 01 05 123456 03 07"); !strings.HasPrefix(all[len(all)-1], "060f") {
		t.Errorf("status: %v", all)
	}

	// 06 50: the totals of the day.
	var day map[string]string
	for _, a := range r.talk("06 50 03 123456") {
		if a[:4] == "040f" {
			day = fields(t, a)
		}
	}
	if day["04"] != "000000001250" || len(day["60"]) < 2*53 {
		t.Errorf("end of day: total %s, %d bytes of single totals", day["04"], len(day["60"])/2)
	} else if at := 2 * 47; day["60"][at-2:at+12] != "01000000001250" { // "other cards"
		t.Errorf("the single totals do not show one payment of 12.50: %s", day["60"])
	}

	for _, c := range []string{"06 B0 00", "06 02 00"} { // abort, log off: answered and no more
		r.send(c)
		if a := r.next(); a != "800000" {
			t.Errorf("%s: %s", c, a)
		}
	}
}

func number(t *testing.T, bcd string) float64 {
	t.Helper()
	n, err := strconv.Atoi(bcd)
	if err != nil {
		t.Errorf("%q is not a number", bcd)
	}
	return float64(n)
}
