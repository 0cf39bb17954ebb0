package iso8583

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/emv/tlv"
)

// fits says why an answer that carries the STAN of a request is not its
// answer, or "". Elements that the host does not echo are not compared; its
// clock (DE12, DE13) is its own.
func fits(request, answer Message) string {
	for _, id := range []int{3, 7, 49, 62, 90} {
		want, asked := request.Fields[id]
		if got, ok := answer.Fields[id]; ok && asked && string(got) != string(want) {
			return "DE" + strconv.Itoa(id) + " differs"
		}
	}
	if got, ok := answer.Fields[4]; ok && string(got) != string(request.Fields[4]) &&
		acquirer.Classify(answer.Text(39)) != acquirer.ClassPartial {
		return "DE4 differs"
	}
	return ""
}

// result reads the answer to a request over amount at the time asked.
func result(m Message, amount int64, asked time.Time) (acquirer.Result, error) {
	r := acquirer.Result{
		ResponseCode: m.Text(39),
		ApprovalCode: strings.TrimSpace(m.Text(38)),
		RRN:          strings.TrimSpace(m.Text(37)),
		HostTime:     hostTime(m, asked),
	}
	r.Class = acquirer.Classify(r.ResponseCode)
	r.Outcome = r.Class.Outcome()
	r.HostRef = r.RRN
	chip(&r, m.Fields[55])
	for _, t := range foreignTables(m.Fields[63]) {
		if !printable(string(t.Data), len(t.Data)) {
			continue
		}
		switch t.ID {
		case "TK":
			r.Token = string(t.Data)
		case "PR":
			r.PAR = string(t.Data)
		case "HR":
			r.HostRef = string(t.Data)
		case "TX":
			r.Text = string(t.Data)
		}
	}
	switch r.Outcome {
	case acquirer.Approved:
		r.ApprovedAmount = amount
		if r.Class == acquirer.ClassPartial {
			part, err := strconv.ParseInt(m.Text(4), 10, 64)
			if err != nil || part <= 0 || part > amount {
				r.Outcome = acquirer.Unknown
				return r, fmt.Errorf("%w: a partial approval without a usable amount", acquirer.ErrUnusable)
			}
			r.ApprovedAmount, r.Partial = part, part < amount
		}
	case acquirer.Unknown:
		return r, fmt.Errorf("%w: response code %q", acquirer.ErrUnusable, r.ResponseCode)
	}
	return r, nil
}

// chip takes 8A, 91, 71 and 72 from field 55, at the outermost level or inside
// a host's template.
func chip(r *acquirer.Result, field55 []byte) {
	if len(r.ResponseCode) == 2 {
		r.ARC = r.ResponseCode
	}
	if v, ok := tlv.Find(field55, 0x8A); ok && len(v) == 2 && printable(string(v), 2) {
		r.ARC = string(v)
	}
	if v, ok := tlv.Find(field55, 0x91); ok && len(v) >= 8 && len(v) <= 16 {
		r.IssuerAuth = append([]byte(nil), v...)
	}
	scripts(&r.Scripts, field55, 3)
}

func scripts(dst *[]byte, data []byte, depth int) {
	it := tlv.Iter(data)
	for it.Next() {
		switch t := it.Tag(); {
		case t == 0x71 || t == 0x72:
			*dst = tlv.Append(*dst, t, it.Value())
		case t.Constructed() && depth > 0:
			scripts(dst, it.Value(), depth-1)
		}
	}
}

// foreignTables returns the tables of DE63, or none where a host puts text
// there.
func foreignTables(b []byte) []Table {
	tables, err := ParseTables(b)
	if err != nil {
		return nil
	}
	return tables
}

// hostTime is DE13 and DE12 in the zone and nearest year of asked.
func hostTime(m Message, asked time.Time) time.Time {
	d, c := m.Text(13), m.Text(12)
	if len(d) != 4 || len(c) != 6 || d == "0000" {
		return time.Time{}
	}
	at, err := time.ParseInLocation("20060102150405", fmt.Sprintf("%04d%s%s", asked.Year(), d, c), asked.Location())
	if err != nil {
		return time.Time{}
	}
	if at.Sub(asked) > 183*24*time.Hour {
		at = at.AddDate(-1, 0, 0)
	} else if asked.Sub(at) > 183*24*time.Hour {
		at = at.AddDate(1, 0, 0)
	}
	return at
}

// finding reads the answer to an inquiry.
func finding(m Message, amount int64, asked time.Time) (acquirer.Finding, error) {
	switch code := m.Text(39); code {
	case "00":
	case "25", "21":
		return acquirer.Finding{State: acquirer.FoundNotFound}, nil
	case "12", "30", "40", "58":
		return acquirer.Finding{State: acquirer.FoundUnable}, nil
	default:
		return acquirer.Finding{}, fmt.Errorf("%w: response code %q to an inquiry", acquirer.ErrUnusable, code)
	}
	for _, t := range foreignTables(m.Fields[63]) {
		if t.ID != "ST" || len(t.Data) < 3 {
			continue
		}
		original := Message{MTI: m.MTI, Fields: map[int][]byte{}}
		for _, id := range []int{4, 12, 13, 37, 38, 63} {
			if v, ok := m.Fields[id]; ok {
				original.Fields[id] = v
			}
		}
		original.Fields[39] = t.Data[1:]
		r, err := result(original, amount, asked)
		if err != nil {
			return acquirer.Finding{}, err
		}
		switch {
		case t.Data[0] == 'A' && r.Outcome == acquirer.Approved:
			return acquirer.Finding{State: acquirer.FoundApproved, Result: r}, nil
		case t.Data[0] == 'D' && r.Outcome == acquirer.Declined:
			return acquirer.Finding{State: acquirer.FoundDeclined, Result: r}, nil
		case t.Data[0] == 'R':
			return acquirer.Finding{State: acquirer.FoundReversed, Result: r}, nil
		}
	}
	return acquirer.Finding{}, fmt.Errorf("%w: the inquiry's answer does not say what became of the original", acquirer.ErrUnusable)
}
