package abecs

import (
	"fmt"
	"slices"

	"tillbridge/drivers"
	"tillbridge/emv/tlv"
)

// allowed are the commands that the driver may send. The classic commands that
// read a card (GCR, CKE, GOC, FNC) return clear tracks and are not among them.
var allowed = map[string]bool{
	"OPN": true, "GIX": true, "CLO": true, "DSP": true, "DEX": true, "CEX": true, "GTK": true, "GPN": true,
	"TLI": true, "TLR": true, "TLE": true, "GCX": true, "GOX": true, "FCX": true, "RMC": true, "GKY": true,
	"MNU": true, "CHP": true,
}

// withParams are the commands whose blocks hold parameters.
var withParams = map[string]bool{"GIX": true, "CEX": true, "GTK": true, "GCX": true, "GOX": true, "FCX": true, "MNU": true}

// dukptMethods are the ways to encrypt card data that the driver asks for.
// Master keys and random keys leave no KSN that the acquirer could use.
var dukptMethods = []string{"30", "50", "51"}

// secretTags hold a card number, a track, a name or an expiry date.
// The templates 70, 77 and 80 hold what the card answered, with all of these.
var secretTags = []tlv.Tag{0x56, 0x57, 0x5A, 0x5F20, 0x5F24, 0x70, 0x77, 0x80, 0x99, 0x9F0B, 0x9F1F, 0x9F20, 0x9F6B}

// CheckCommand refuses a command whose answer would hold clear card data, with
// an error that matches drivers.ErrRefused. Every command passes it on its way
// out.
func CheckCommand(packet []byte) error {
	r, err := ParseRequest(packet)
	if err != nil {
		return err
	}
	refuse := func(why string) error { return fmt.Errorf("%w (%s: %s)", drivers.ErrRefused, r.Name, why) }
	if !allowed[r.Name.String()] {
		return refuse("not a command of this driver")
	}
	if withParams[r.Name.String()] {
		// The pad takes which of two it likes, and may read on where we stop.
		seen := map[ID]bool{}
		for p, err := range r.Params() {
			if err != nil {
				return err
			}
			if seen[p.ID] && p.ID != MenuOption {
				return refuse("parameter " + p.ID.String() + " is there twice")
			}
			seen[p.ID] = true
		}
	}
	switch r.Name.String() {
	case "GTK":
		method, ok := r.Find(MethodData)
		if !ok || !slices.Contains(dukptMethods, string(method)) {
			return refuse("without a DUKPT method the tracks come in clear")
		}
		if open, ok := r.Find(OpenDigits); ok && (len(open) != 1 || open[0] > '6') {
			return refuse("more than six digits would stay in clear")
		}
	case "CEX", "GCX":
		m, ok := r.Find(PANMask)
		left, ok1 := 0, false
		right, ok2 := 0, false
		if ok && len(m) == 4 {
			left, ok1 = number(m[:2])
			right, ok2 = number(m[2:])
		}
		if !ok1 || !ok2 || left > 6 || right > 4 {
			return refuse("without a mask of at most 06 and 04 digits the card number comes in clear")
		}
	case "CHP":
		return checkAPDU(r)
	}
	if list, ok := r.Find(TagList); ok {
		for len(list) > 0 {
			t, n := splitTag(list)
			if slices.Contains(secretTags, t) {
				return refuse("tag " + t.String() + " is card data")
			}
			list = list[n:]
		}
	}
	return nil
}

// splitTag reads the first tag of a list of tags.
func splitTag(b []byte) (t tlv.Tag, n int) {
	t, n = tlv.Tag(b[0]), 1
	if b[0]&0x1F != 0x1F {
		return t, n
	}
	for n < len(b) && n < 4 {
		t = t<<8 | tlv.Tag(b[n])
		n++
		if b[n-1]&0x80 == 0 {
			break
		}
	}
	return t, n
}
