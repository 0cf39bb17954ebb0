package replay

import (
	"context"
	"encoding/json"
	"testing"
)

// FuzzRecording reads any file and replays what it holds, both ways: no panic,
// no end that is missing, and never more answers than there are exchanges.
func FuzzRecording(f *testing.F) {
	f.Add([]byte(`{"transcripts":[{"name":"a","level":"TPDU","exchanges":[{"capdu":"00A404000E","rapdu":"A4"},{"capdu":"315041592E5359532E4444463031","rapdu":"6126"}]}]}`))
	f.Add([]byte(`[{"date":"190819","time":"000000","unpredictable_numbers":"33BCA47D","transaction_request_tlv":"9F02060000000015009C0100","exchanges":[{"capdu":"","rapdu":"6985"},{"capdu":"80AE4000020000","rapdu":"77149F2701409F360200019F260811223344556677889000"}]}]`))
	f.Add([]byte(`{"exchanges":[{"capdu":"00B2010C00","rapdu":"70039F38029000"},{"capdu":"0020008008241234FFFFFFFFFF","rapdu":"63C2"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Parse(b)
		if err != nil {
			return
		}
		for _, r := range list {
			for _, strict := range []bool{true, false} {
				rep := Run(context.Background(), r, &Options{Strict: strict})
				if rep.Outcome == "" || rep.Sent-rep.Unmatched+rep.Unused != len(r.Exchanges) {
					t.Fatalf("outcome %q, %d sent, %d unmatched, %d unused of %d", rep.Outcome, rep.Sent, rep.Unmatched, rep.Unused, len(r.Exchanges))
				}
				if _, err := json.Marshal(rep); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
