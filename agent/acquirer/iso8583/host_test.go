package iso8583_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/acquirer/iso8583"
	host "tillbridge/agent/sandbox/acquirer"
	"tillbridge/p2pe"
)

func TestSaleWithChipAndPINUnderEveryDialectAndScheme(t *testing.T) {
	for _, dialect := range []string{"ascii87", "bcd87"} {
		for _, scheme := range []p2pe.Scheme{p2pe.SchemeTDESDUKPT, p2pe.SchemeAESDUKPT} {
			t.Run(dialect+"/"+string(scheme), func(t *testing.T) {
				tl := newTill(t, dialect, scheme, host.Options{})
				res := tl.authorize(tl.sale(1234, "pay_1"))
				if res.Outcome != acquirer.Approved || res.ResponseCode != "00" || res.ARC != "00" || res.ApprovedAmount != 1234 || res.Partial {
					t.Fatalf("not approved: %v", res)
				}
				if res.Token == "" || len(res.PAR) != 29 || len(res.ApprovalCode) != 6 || len(res.RRN) != 12 || len(res.IssuerAuth) != 10 || res.HostTime.IsZero() {
					t.Errorf("the answer lacks something: token %v par %d approval %q rrn %q 91 %d", res.Token != "", len(res.PAR), res.ApprovalCode, res.RRN, len(res.IssuerAuth))
				}
				s := tl.summary()
				if len(s.Entries) != 1 || s.Entries[0].ARQC != "verified" || s.Entries[0].PIN != "ok" || s.Net["978"] != 1234 || s.Authorisations != 1 {
					t.Errorf("the books: %+v", s)
				}
				if raw, _ := json.Marshal(s); strings.Contains(string(raw), testPAN) || strings.Contains(tl.log.String(), testPAN) {
					t.Error("a card number in books or log")
				}
				if err := tl.link.Echo(tl.ctx()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// unanswered sends a sale under a fault and gives up when the host has done
// its part.
func unanswered(t *testing.T, tl *till, f host.Fault, done func()) (acquirer.Request, acquirer.Result, error) {
	t.Helper()
	tl.fault(f)
	r := tl.sale(500, "pay_x")
	ctx, cancel := context.WithCancel(tl.ctx())
	defer cancel()
	type answer struct {
		res acquirer.Result
		err error
	}
	got := make(chan answer, 1)
	go func() {
		res, err := tl.link.Authorize(ctx, r)
		got <- answer{res, err}
	}()
	done()
	cancel()
	a := <-got
	return r, a.res, a.err
}

func TestSilenceIsUnknownAndSettledByInquiryAndReversal(t *testing.T) {
	for _, dialect := range []string{"ascii87", "bcd87"} {
		for _, c := range []struct {
			fault string
			found acquirer.FindingState
			ack   acquirer.AckState
		}{
			{"silent", acquirer.FoundApproved, acquirer.AckDone},
			{"lost", acquirer.FoundNotFound, acquirer.AckNotFound},
			{"garbage", acquirer.FoundApproved, acquirer.AckDone},
			{"half", acquirer.FoundApproved, acquirer.AckDone},
			{"drop_before", acquirer.FoundNotFound, acquirer.AckNotFound},
			{"drop_after", acquirer.FoundApproved, acquirer.AckDone},
			{"wrong_stan", acquirer.FoundApproved, acquirer.AckDone},
			{"wrong_terminal", acquirer.FoundApproved, acquirer.AckDone},
		} {
			t.Run(dialect+"/"+c.fault, func(t *testing.T) {
				tl := newTill(t, dialect, p2pe.SchemeTDESDUKPT, host.Options{})
				r, res, err := unanswered(t, tl, host.Fault{Cmd: c.fault}, func() {
					tl.await("request", "0")
					if strings.HasPrefix(c.fault, "wrong") {
						tl.await("answer", "0")
						tl.until("the link saw an answer for nobody", func() bool { return tl.link.Status().Late == 1 })
					}
				})
				e, ok := errors.AsType[*acquirer.Error](err)
				if res.Outcome != acquirer.Unknown || !ok || !e.Sent {
					t.Fatalf("%v, %v: want unknown and sent", res, err)
				}
				var f acquirer.Finding
				for range 20 { // the link may not have noticed yet that the host hung up
					f, err = tl.link.Inquire(tl.ctx(), acquirer.Inquiry{STAN: tl.next(), Time: r.Time, Original: r.AsOriginal(acquirer.Result{})})
					if !errors.Is(err, acquirer.ErrDisconnected) {
						break
					}
				}
				if err != nil || f.State != c.found {
					t.Fatalf("the inquiry found %v (%v), want %v", f.State, err, c.found)
				}
				if f.State == acquirer.FoundApproved && (f.Result.ApprovedAmount != 500 || f.Result.Token == "" || f.Result.ApprovalCode == "") {
					t.Errorf("the finding lacks something: %v", f.Result)
				}
				rv := acquirer.Reversal{STAN: tl.next(), Time: r.Time, Original: r.AsOriginal(acquirer.Result{}), Reason: acquirer.NoAnswer}
				for ; rv.Attempt < 3; rv.Attempt++ {
					ack, err := tl.link.Reverse(tl.ctx(), rv)
					if err != nil || ack.State != c.ack || !ack.Ended() {
						t.Fatalf("attempt %d: %v, %v, want %v", rv.Attempt, ack.State, err, c.ack)
					}
				}
				s := tl.summary()
				if s.Net["978"] != 0 || s.DoubleCharges != 0 || len(s.Undone) != 1 || s.Undone[0].Times != 3 || s.Undone[0].Repeats != 2 {
					t.Errorf("the books after one reversal sent three times: net %d, undone %+v", s.Net["978"], s.Undone)
				}
				want := 0
				if c.ack == acquirer.AckDone {
					want = 1
				}
				if s.Reversals != want {
					t.Errorf("%d reversals, want %d", s.Reversals, want)
				}
			})
		}
	}
}

func TestAnswerForAnotherSTANNeverPairs(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	_, res, err := unanswered(t, tl, host.Fault{Cmd: "wrong_stan"}, func() {
		tl.await("answer", "0210")
		tl.until("the answer was counted as late", func() bool { return tl.link.Status().Late == 1 })
	})
	if res.Outcome != acquirer.Unknown || err == nil {
		t.Errorf("%v, %v: an answer for another STAN was used", res, err)
	}
}

func TestSilenceIsNeverADecline(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	_, res, err := unanswered(t, tl, host.Fault{Cmd: "silent"}, func() { tl.await("request", "0200") })
	if res.Outcome != acquirer.Unknown || !errors.Is(err, acquirer.ErrCanceled) {
		t.Errorf("%v, %v: want unknown", res, err)
	}
}

func TestLateAnswerIsLoggedAndGivenToNobody(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	r, res, _ := unanswered(t, tl, host.Fault{Cmd: "hold"}, func() { tl.await("request", "0200") })
	if res.Outcome != acquirer.Unknown {
		t.Fatal(res)
	}
	tl.host.Release()
	tl.until("the late answer was counted", func() bool { return tl.link.Status().Late == 1 })
	if !strings.Contains(tl.log.String(), "too late") {
		t.Error("the log does not say that the answer was late")
	}
	if late := <-tl.late; late.Outcome != acquirer.Approved || late.ApprovedAmount != r.Amounts.Amount || late.RRN == "" {
		t.Errorf("the late answer was reported as %v", late)
	}
	next := tl.authorize(tl.sale(700, "pay_y"))
	if next.ApprovedAmount != 700 {
		t.Error("the next sale got another's answer")
	}
}

func TestDoubleAnswerIsUsedOnce(t *testing.T) {
	tl := newTill(t, "bcd87", p2pe.SchemeTDESDUKPT, host.Options{})
	tl.fault(host.Fault{Cmd: "double"})
	if res := tl.authorize(tl.sale(100, "pay_1")); res.Outcome != acquirer.Approved {
		t.Fatal(res)
	}
	tl.until("the second answer was counted", func() bool { return tl.link.Status().Late == 1 })
	if res := tl.authorize(tl.sale(200, "pay_2")); res.ApprovedAmount != 200 {
		t.Error("the second answer was given to the next sale")
	}
}

func TestDeclinesAndPartialApproval(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	tl.fault(host.Fault{Cmd: "decline", Code: "51"})
	res := tl.authorize(tl.sale(100, "pay_1"))
	if res.Outcome != acquirer.Declined || res.ResponseCode != "51" || res.Class != acquirer.ClassLater || res.ApprovedAmount != 0 {
		t.Errorf("decline: %v %v", res, res.Class)
	}
	tl.fault(host.Fault{Cmd: "partial", Amount: 300})
	r := tl.sale(1000, "pay_2")
	r.AcceptPartial = true
	res = tl.authorize(r)
	if res.Outcome != acquirer.Approved || !res.Partial || res.ApprovedAmount != 300 {
		t.Errorf("partial: %v %d", res, res.ApprovedAmount)
	}
	tl.fault(host.Fault{Cmd: "decline", Code: "94"})
	if res, err := tl.link.Authorize(tl.ctx(), tl.sale(100, "pay_3")); res.Outcome != acquirer.Unknown || !errors.Is(err, acquirer.ErrUnusable) {
		t.Errorf("code 94: %v, %v: it says nothing of the outcome", res, err)
	}
	if s := tl.summary(); s.Net["978"] != 300 || s.Declined != 2 {
		t.Errorf("net %d, declined %d", s.Net["978"], s.Declined)
	}
}

func TestHostRefusesARepeatedKeySerialNumber(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	first := tl.sale(100, "pay_1")
	if res := tl.authorize(first); res.Outcome != acquirer.Approved {
		t.Fatal(res)
	}
	again := tl.sale(100, "pay_2")
	again.Card = first.Card
	if res := tl.authorize(again); res.Outcome != acquirer.Declined || res.ResponseCode != "63" {
		t.Errorf("the same KSN for card data: %v", res)
	}
	again = tl.sale(100, "pay_3")
	again.PIN = first.PIN
	if res := tl.authorize(again); res.Outcome != acquirer.Declined || res.ResponseCode != "63" {
		t.Errorf("the same KSN for a PIN: %v", res)
	}
	if s := tl.summary(); s.KSNRepeats != 2 {
		t.Errorf("%d repeats counted", s.KSNRepeats)
	}
}

func TestHostVerifiesTheCryptogram(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	r := tl.sale(100, "pay_1")
	r.Field55 = append([]byte(nil), r.Field55...)
	r.Field55[5]++ // an amount that the card did not see
	if res := tl.authorize(r); res.Outcome != acquirer.Declined {
		t.Errorf("a wrong cryptogram: %v", res)
	}
	if s := tl.summary(); s.ARQCFailed != 1 {
		t.Errorf("%d failures counted", s.ARQCFailed)
	}
}

func TestHostChecksThePIN(t *testing.T) {
	tl := newTill(t, "bcd87", p2pe.SchemeAESDUKPT, host.Options{})
	tl.host.SetPIN(testPAN, "1234")
	tl.pin = "4321"
	if res := tl.authorize(tl.sale(100, "pay_1")); res.ResponseCode != "55" || res.Class != acquirer.ClassNewData {
		t.Errorf("a wrong PIN: %v", res)
	}
	tl.pin = "1234"
	if res := tl.authorize(tl.sale(100, "pay_1")); res.Outcome != acquirer.Approved {
		t.Errorf("the right PIN: %v", res)
	}
}

func TestBooksCountARepeatUnderANewSTANAsADoubleCharge(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	first := tl.sale(100, "pay_1")
	res := tl.authorize(first)
	if again, err := tl.link.Authorize(tl.ctx(), first); again.Outcome != acquirer.Unknown || err == nil {
		t.Errorf("the same STAN again: %v, %v: want a duplicate that settles nothing", again, err)
	}
	if s := tl.summary(); s.DoubleCharges != 0 || s.Duplicates != 1 {
		t.Fatalf("the same request again: %d double charges, %d duplicates", s.DoubleCharges, s.Duplicates)
	}
	second := tl.sale(100, "pay_1")
	tl.authorize(second)
	if s := tl.summary(); s.DoubleCharges != 1 {
		t.Fatalf("%d double charges, want 1", s.DoubleCharges)
	}
	if _, err := tl.link.Reverse(tl.ctx(), acquirer.Reversal{STAN: tl.next(), Time: first.Time, Original: first.AsOriginal(res)}); err != nil {
		t.Fatal(err)
	}
	if s := tl.summary(); s.DoubleCharges != 0 || s.Net["978"] != 100 {
		t.Errorf("after the reversal: %d double charges, net %d", s.DoubleCharges, s.Net["978"])
	}
	tl.authorize(tl.sale(100, "pay_2")) // the same customer buys again
	if s := tl.summary(); s.DoubleCharges != 0 {
		t.Error("a second purchase counts as a double charge")
	}
}

func TestVoidRefundCaptureAndAdvice(t *testing.T) {
	for _, dialect := range []string{"ascii87", "bcd87"} {
		t.Run(dialect, func(t *testing.T) {
			tl := newTill(t, dialect, p2pe.SchemeTDESDUKPT, host.Options{})
			about := func(kind acquirer.Kind, amount int64, ref string, o acquirer.Original) acquirer.Request {
				r := tl.sale(amount, ref)
				r.Kind, r.Original, r.Card, r.PIN, r.Field55, r.PANSequence = kind, &o, p2pe.Envelope{}, p2pe.PINBlock{}, nil, -1
				return r
			}
			sale := tl.sale(1000, "pay_1")
			o := sale.AsOriginal(tl.authorize(sale))
			if res := tl.authorize(about(acquirer.Refund, 400, "ref_1", o)); res.Outcome != acquirer.Approved {
				t.Fatalf("refund: %v", res)
			}
			if res := tl.authorize(about(acquirer.Refund, 700, "ref_2", o)); res.Outcome != acquirer.Declined {
				t.Errorf("a refund of more than is left: %v", res)
			}
			sale = tl.sale(250, "pay_2")
			o = sale.AsOriginal(tl.authorize(sale))
			void := about(acquirer.Void, 250, "pay_2", o)
			voided := tl.authorize(void)
			if voided.Outcome != acquirer.Approved {
				t.Fatalf("void: %v", voided)
			}
			if s := tl.summary(); s.Net["978"] != 600 || s.Voids != 1 || s.Refunds != 1 {
				t.Fatalf("net %d, voids %d, refunds %d", s.Net["978"], s.Voids, s.Refunds)
			}
			if _, err := tl.link.Reverse(tl.ctx(), acquirer.Reversal{STAN: tl.next(), Time: void.Time, Original: void.AsOriginal(voided)}); err != nil {
				t.Fatal(err)
			}
			if s := tl.summary(); s.Net["978"] != 850 {
				t.Fatalf("net %d after the void was reversed, want 850", s.Net["978"])
			}
			auth := tl.sale(900, "pay_3")
			auth.Kind = acquirer.Authorization
			o = auth.AsOriginal(tl.authorize(auth))
			if s := tl.summary(); s.Held["978"] != 900 || s.Net["978"] != 850 {
				t.Fatalf("held %d, net %d", s.Held["978"], s.Net["978"])
			}
			if res := tl.authorize(about(acquirer.Capture, 900, "pay_3", o)); res.Outcome != acquirer.Approved {
				t.Fatalf("capture: %v", res)
			}
			advice := acquirer.Advice{Request: tl.sale(50, "pay_4")}
			for ; advice.Attempt < 3; advice.Attempt++ {
				if ack, err := tl.link.Advise(tl.ctx(), advice); err != nil || !ack.Ended() {
					t.Fatalf("advice attempt %d: %v, %v", advice.Attempt, ack, err)
				}
			}
			if s := tl.summary(); s.Held["978"] != 0 || s.Net["978"] != 1800 || s.DoubleCharges != 0 {
				t.Errorf("held %d, net %d, double %d", s.Held["978"], s.Net["978"], s.DoubleCharges)
			}
		})
	}
}

func TestNothingIsSentToAHostThatIsNotThereOrNotTrusted(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	d, _ := iso8583.Named("ascii87")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	for name, c := range map[string]struct {
		o    iso8583.Options
		want error
	}{
		"nobody listens":    {iso8583.Options{Addr: dead, Roots: tl.host.Roots()}, acquirer.ErrUnreachable},
		"no such authority": {iso8583.Options{Addr: tl.host.Addr, Roots: x509.NewCertPool()}, acquirer.ErrUntrusted},
		"another name":      {iso8583.Options{Addr: tl.host.Addr, Roots: tl.host.Roots(), ServerName: "bank.example"}, acquirer.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Dialect = d
			link, err := iso8583.Open(c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			res, err := link.Authorize(tl.ctx(), tl.sale(100, "pay_1"))
			if res.Outcome != acquirer.NotSent || !errors.Is(err, c.want) {
				t.Errorf("%v, %v: want %v", res, err, c.want)
			}
		})
	}
	if s := tl.summary(); len(s.Entries) != 0 {
		t.Error("the host booked something")
	}
	if _, err := iso8583.Open(iso8583.Options{Addr: dead, Dialect: d}); err == nil {
		t.Error("a link without a pinned authority was opened")
	}
}

func TestLinkComesBackAfterAnOutage(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	tl.authorize(tl.sale(100, "pay_1"))
	tl.host.SetDown(true)
	tl.until("the link noticed", func() bool { return !tl.link.Status().Connected })
	if res, err := tl.link.Authorize(tl.ctx(), tl.sale(100, "pay_2")); res.Outcome == acquirer.Approved || res.Outcome == acquirer.Declined || err == nil {
		t.Fatalf("%v, %v while the host is down", res, err)
	}
	tl.host.SetDown(false)
	tl.until("a sale goes through", func() bool {
		res, _ := tl.link.Authorize(tl.ctx(), tl.sale(100, fmt.Sprintf("pay_%d", tl.next())))
		return res.Outcome == acquirer.Approved
	})
}

func TestSameSTANInFlightIsRefused(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	r := tl.sale(100, "pay_1")
	unanswered(t, tl, host.Fault{Cmd: "hold"}, func() {
		held := tl.await("request", "0200")
		fmt.Sscanf(held.STAN, "%d", &r.STAN)
		res, err := tl.link.Authorize(tl.ctx(), r)
		if res.Outcome != acquirer.NotSent || !errors.Is(err, acquirer.ErrBusy) {
			t.Errorf("%v, %v: want busy and not sent", res, err)
		}
	})
}

func TestManySalesShareOneConnection(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	tl.fault(host.Fault{Cmd: "late", MS: 20, Count: 5})
	var wg sync.WaitGroup
	seen := sync.Map{}
	for i := range 24 {
		r := tl.sale(int64(1000+i), fmt.Sprintf("pay_%d", i))
		wg.Go(func() {
			res, err := tl.link.Authorize(tl.ctx(), r)
			if err != nil || res.Outcome != acquirer.Approved || res.ApprovedAmount != r.Amounts.Amount {
				t.Errorf("sale %d: %v, %v", i, res, err)
			}
			if _, twice := seen.LoadOrStore(res.RRN, i); twice {
				t.Errorf("sale %d has another's answer", i)
			}
		})
	}
	wg.Wait()
	for _, e := range tl.summary().Entries {
		want := fmt.Sprintf("pay_%d", e.Asked-1000)
		if e.Reference != want {
			t.Errorf("entry of %d has reference %q", e.Asked, e.Reference)
		}
	}
}

func TestBooksSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.json")
	keys := host.NewKeys()
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{BooksPath: path, Keys: keys})
	first := tl.sale(100, "pay_1")
	res := tl.authorize(first)
	tl.host.Close()
	again := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{BooksPath: path, Keys: keys})
	again.stan = 500
	second := again.sale(100, "pay_1") // the pad counts from the start: a repeated KSN
	if r := again.authorize(second); r.ResponseCode != "63" {
		t.Errorf("a KSN used before the restart: %v", r)
	}
	ack, err := again.link.Reverse(again.ctx(), acquirer.Reversal{STAN: again.next(), Time: first.Time, Original: first.AsOriginal(res)})
	if err != nil || ack.State != acquirer.AckDone {
		t.Fatalf("a reversal of what was booked before: %v, %v", ack, err)
	}
	if s := again.summary(); s.Net["978"] != 0 || s.Reversals != 1 {
		t.Errorf("net %d, reversals %d", s.Net["978"], s.Reversals)
	}
}

func TestARequestThatCannotBeExpressedIsNotSent(t *testing.T) {
	tl := newTill(t, "ascii87", p2pe.SchemeTDESDUKPT, host.Options{})
	for name, spoil := range map[string]func(*acquirer.Request){
		"STAN 0":            func(r *acquirer.Request) { r.STAN = 0 },
		"STAN too long":     func(r *acquirer.Request) { r.STAN = 1000000 },
		"negative amount":   func(r *acquirer.Request) { r.Amounts.Amount = -1 },
		"no currency":       func(r *acquirer.Request) { r.Amounts.CurrencyNumeric = 0 },
		"cashback over all": func(r *acquirer.Request) { r.Amounts.Other = r.Amounts.Amount + 1 },
		"no terminal":       func(r *acquirer.Request) { r.TerminalID = "" },
		"control character": func(r *acquirer.Request) { r.Reference = "a\nb" },
		"no card":           func(r *acquirer.Request) { r.Card = p2pe.Envelope{} },
		"void of nothing":   func(r *acquirer.Request) { r.Kind = acquirer.Void },
		"unknown kind":      func(r *acquirer.Request) { r.Kind = "bet" },
		"PIN block of 5":    func(r *acquirer.Request) { r.PIN.Block = make([]byte, 5) },
		"field 55 too long": func(r *acquirer.Request) { r.Field55 = make([]byte, 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			r := tl.sale(100, "pay_1")
			spoil(&r)
			res, err := tl.link.Authorize(tl.ctx(), r)
			if res.Outcome != acquirer.NotSent || !errors.Is(err, acquirer.ErrInvalid) && !errors.Is(err, acquirer.ErrUnsupported) {
				t.Errorf("%v, %v", res, err)
			}
		})
	}
	if s := tl.summary(); len(s.Entries) != 0 {
		t.Error("the host booked something")
	}
}
