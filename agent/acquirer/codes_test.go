package acquirer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tillbridge/p2pe"
)

func TestClassifyNeverTakesANonResultForADecline(t *testing.T) {
	for code, want := range map[string]Outcome{
		"00": Approved, "10": Approved, "05": Declined, "51": Declined, "ZZ": Declined,
		"09": Unknown, "94": Unknown, "": Unknown, "000": Approved, "100": Declined, "913": Unknown,
	} {
		if got := Classify(code).Outcome(); got != want {
			t.Errorf("code %q: %v, want %v", code, got, want)
		}
	}
}

func TestAckEndsOnlyWithDoneOrNotFound(t *testing.T) {
	for code, want := range map[string]bool{"00": true, "25": true, "21": true, "400": true, "96": false, "": false, "12": false, "30": false} {
		if got := (Ack{State: AckOf(code)}).Ended(); got != want {
			t.Errorf("code %q ended %v, want %v", code, got, want)
		}
	}
}

func TestZeroValuesProveNothing(t *testing.T) {
	var r Result
	if r.Outcome != Unknown || !r.Outcome.Sent() {
		t.Error("the zero Result is not Unknown and possibly sent")
	}
	if (Ack{}).Ended() {
		t.Error("the zero Ack ends a reversal")
	}
	if (Finding{}).State != FoundNothing {
		t.Error("the zero Finding says something")
	}
	if NotSent.Sent() {
		t.Error("NotSent says that it was sent")
	}
}

func TestErrorsHaveCodes(t *testing.T) {
	for _, err := range []error{ErrUnreachable, ErrUntrusted, ErrTimeout, ErrDisconnected, ErrCanceled, ErrClosed, ErrInvalid, ErrUnusable, ErrBusy, ErrUnsupported} {
		e := &Error{Op: "authorize", Sent: true, Err: fmt.Errorf("x: %w", err)}
		if !errors.Is(e, err) || !strings.HasPrefix(e.Code(), "host.") || e.Code() == "host.error" {
			t.Errorf("%v: code %q", err, e.Code())
		}
	}
}

func TestRequestsDoNotPrintTheirData(t *testing.T) {
	r := Request{Kind: Sale, STAN: 7, Token: "tok_secret", Field55: []byte("CHIPDATA"), PIN: p2pe.PINBlock{Block: []byte("PINBLOCK")}}
	for _, v := range []any{r, &r, Advice{Request: r}, Reversal{Field55: []byte("CHIPDATA"), Original: Original{Token: "tok_secret"}}, Result{Token: "tok_secret"}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			text := fmt.Sprintf(verb, v)
			for _, bad := range []string{"tok_secret", "CHIPDATA", "PINBLOCK", "67 72 73", "43484950"} {
				if strings.Contains(text, bad) {
					t.Errorf("%s of %T shows %q", verb, v, bad)
				}
			}
		}
	}
}
