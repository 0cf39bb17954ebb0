package engine

import (
	"context"
	"testing"

	"tillbridge/drivers"
	"tillbridge/emv"
)

type powerless struct{ drivers.APDUChannel }

func (powerless) PowerOff(context.Context) error { return nil }

// An issuer's approval that cannot be given to the card any more asks for its
// reversal; a decline does not.
func TestApprovalAfterCancelNeedsReversal(t *testing.T) {
	for _, approved := range []bool{true, false} {
		s := &hostSession{h: &hostReader{card: powerless{}}, ended: make(chan struct{}, 1)}
		if err := s.Cancel(context.Background()); err != nil {
			t.Fatal(err)
		}
		out, err := s.Complete(context.Background(), emv.HostResponse{Reached: true, Sent: true, Approved: approved, ARC: "00"})
		if err == nil || out.ReversalNeeded != approved || out.Decision != emv.Declined {
			t.Errorf("approved %v: %q, reversal %v, %v", approved, out.Decision, out.ReversalNeeded, err)
		}
	}
}
