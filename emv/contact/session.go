package contact

import (
	"context"
	"errors"
	"sync"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// Session is one card in one payment: the kernel's state between the steps of
// [emv.Session]. Make it with [New]; it serves one transaction.
type Session struct {
	config Config
	reader reader

	turn   chan struct{} // held by the step that runs
	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the step that runs
	over   bool
	stage  stage

	terms   emv.Terms
	amounts emv.Amounts
	date    oda.Date
	data    data
	chosen  Candidate
	reasons []emv.Reason

	profile       [2]byte // 82
	locator       []fileEntry
	signed        []oda.Record
	records       int
	unpredictable [4]byte
	pdolData      []byte
	cdol1, cdol2  tlv.DOL
	cdol1Data     []byte
	cdol2Data     []byte

	method    oda.Method
	key       oda.CardKey
	authentic bool
	cvm       CVMResult
	pin       p2pe.PINBlock
	tvr       TVR
	firstTVR  TVR
	secondTVR TVR
	tsi       TSI

	asked       bool // a GENERATE AC may have reached the card
	askedIssuer bool // Complete has begun
	closing     bool // the store holds the second cryptogram
	direct      bool // see Fragment.Direct
	fragmentP1  byte // bits that a recorded GENERATE AC had beside the type
	contactless bool // entered by the contactless directory
	arc         string
	results     []byte // 9F5B
}

type stage int

const (
	fresh stage = iota
	read
	online
	done
)

var _ emv.Session = (*Session)(nil)

// New makes a session for the card behind a transceiver, which may be a plain
// reader: 61xx and 6Cxx are followed here. The error is [ErrConfig].
func New(card emv.Transceiver, c Config) (*Session, error) {
	c, err := c.normal()
	if err != nil {
		return nil, err
	}
	s := &Session{config: c, turn: make(chan struct{}, 1), reasons: make([]emv.Reason, 0, 8)}
	s.cvm.Result = [3]byte{noneChosen, 0, 0}
	s.reader = reader{card: apdu.Follow{Card: card}, config: &s.config}
	s.data.at[fromTransaction] = make([]object, 0, 24)
	s.data.at[fromTerminal] = make([]object, 0, 16)
	s.data.at[fromCard] = make([]object, 0, 48)
	return s, nil
}

// Commands is the number of commands that went to the card.
func (s *Session) Commands() int { return s.reader.commands }

// Records is the number of records that were read.
func (s *Session) Records() int { return s.records }

// Application is the chosen application; its AID is nil before there is one.
func (s *Session) Application() Candidate { return s.chosen }

// Reasons is the chain of reasons so far.
func (s *Session) Reasons() []emv.Reason { return append([]emv.Reason(nil), s.reasons...) }

// begin takes the turn for a step; end gives it back.
func (s *Session) begin(ctx context.Context, want stage, name string) (context.Context, func(), error) {
	select {
	case s.turn <- struct{}{}:
	default:
		return nil, nil, &Error{Step: name, Reason: ErrOrder}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		<-s.turn
		return nil, nil, &Error{Step: name, Class: emv.ErrCancelled, Reason: errors.New("the session was cancelled")}
	}
	if s.stage != want {
		<-s.turn
		return nil, nil, &Error{Step: name, Reason: ErrOrder}
	}
	own, cancel := context.WithCancelCause(ctx)
	s.cancel = cancel
	return own, func() {
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel(nil)
		<-s.turn
	}, nil
}

// Cancel ends the session: the command that runs is given up, and Cancel
// returns when its step is over. It never sends anything to the card; the
// caller powers it down.
func (s *Session) Cancel(ctx context.Context) error {
	s.mu.Lock()
	s.over = true
	if s.cancel != nil {
		s.cancel(emv.ErrCancelled)
	}
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		s.pin.Erase()
		<-s.turn
		return nil
	case <-ctx.Done():
		return &Error{Step: "cancel", Reason: ErrNoAnswer, cause: ctx.Err()}
	}
}

// Erase ends the session and overwrites what it holds of the card, its number
// among it. Call it when the payment is over and no step runs. Copies that the
// way to the card made are not reached.
func (s *Session) Erase() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	for _, o := range s.data.at[fromCard] {
		clear(o.value)
	}
	for _, r := range s.signed {
		clear(r.Data)
	}
	for _, b := range [][]byte{s.pdolData, s.cdol1Data, s.cdol2Data, s.reader.buf[:]} {
		clear(b)
	}
	s.pin.Erase()
}

// Read selects an application, starts it and reads its records. The card must
// be in the reader and powered. No command here moves money.
func (s *Session) Read(ctx context.Context, t emv.Terms) (emv.Card, error) {
	ctx, end, err := s.begin(ctx, fresh, "read")
	if err != nil {
		return emv.Card{}, err
	}
	defer end()
	s.stage = done // until the end is reached
	if err := s.prepare(t); err != nil {
		return emv.Card{}, err
	}
	if err := s.open(ctx); err != nil {
		return emv.Card{}, err
	}
	if err := s.readAll(ctx); err != nil {
		return emv.Card{}, err
	}
	if err := s.mandatory(); err != nil {
		return emv.Card{}, unusable(stepRecords, err, 0)
	}
	card, err := s.describe()
	if err != nil {
		return emv.Card{}, err
	}
	s.stage = read
	return card, nil
}

// open selects an application and starts it, going on to the next candidate
// when the card refuses one (Book 1 section 12.4, Book 4 section 6.3.1).
func (s *Session) open(ctx context.Context) error {
	list, err := s.candidates(ctx)
	if err != nil {
		return err
	}
	return s.openFrom(ctx, list)
}

func (s *Session) openFrom(ctx context.Context, list []Candidate) error {
	for len(list) > 0 {
		i, err := s.choose(ctx, list)
		if err != nil {
			return err
		}
		s.chosen = list[i]
		list = append(list[:i:i], list[i+1:]...)
		started, err := s.start(ctx)
		if err != nil {
			return err
		}
		if started {
			return nil
		}
	}
	s.chosen = Candidate{}
	return unusable(stepSelection, ErrNoCandidate, 0)
}

// start is the final selection and GET PROCESSING OPTIONS. false means: take
// the next candidate.
func (s *Session) start(ctx context.Context) (bool, error) {
	a, err := s.selectName(ctx, s.chosen.AID, false)
	if err != nil {
		return false, err
	}
	if a.Status != apdu.OK {
		s.note(stepSelection, "the application cannot be selected (status "+a.Status.String()+")", "B1 12.4")
		return false, nil
	}
	return s.startSelected(ctx, a.Data)
}

func (s *Session) startSelected(ctx context.Context, answer []byte) (bool, error) {
	f, ok := parseFCI(answer, s.chosen.AID)
	if !ok {
		s.note(stepSelection, "the selection answer cannot be read", "B1 12.4")
		return false, nil
	}
	s.locator, s.signed, s.records, s.profile = nil, nil, 0, [2]byte{}
	if err := s.data.addSelection(f.proprietary); err != nil {
		s.note(stepSelection, "the selection answer cannot be read", "B1 12.4")
		return false, nil
	}
	s.data.set(fromCard, 0x84, f.name)
	s.chosen.fill(f.proprietary)
	app := s.chosen.terminal
	if err := s.terminal(); err != nil {
		return false, err
	}
	s.data.set(fromTerminal, 0x9F06, s.chosen.AID)
	s.data.set(fromTerminal, 0x9F09, app.Version[:])
	floor := min(max(app.Risk.FloorLimit, 0), 0xFFFFFFFF)
	s.data.set(fromTerminal, 0x9F1B, []byte{byte(floor >> 24), byte(floor >> 16), byte(floor >> 8), byte(floor)})
	if err := s.terminalData(app.Data); err != nil {
		return false, err
	}
	pdol, err := tlv.ParseDOL(s.data.card(0x9F38))
	if err != nil || pdol.Size() > 250 {
		return false, unusable(stepInitiate, ErrFormat, 0)
	}
	if !s.amountsFit(pdol) {
		return false, &Error{Step: stepInitiate, Reason: ErrAmount}
	}
	again, err := s.initiate(ctx, pdol.Append(make([]byte, 0, pdol.Size()), s.data.lookup))
	return !again, err
}

// describe makes the public view of the card and the envelope.
func (s *Session) describe() (emv.Card, error) {
	clearText := s.clearData()
	defer clearText.Erase()
	c := emv.Card{Entry: emv.EntryContact, AID: hexOf(s.chosen.AID), Label: s.chosen.Name(), PANSequence: -1}
	c.MaskedPAN, c.BIN6, c.Last4 = mask(clearText.PAN)
	if v := s.data.card(0x5F34); len(v) == 1 && v[0]>>4 <= 9 && v[0]&15 <= 9 {
		c.PANSequence = int(v[0]>>4)*10 + int(v[0]&15)
	}
	if v := s.data.card(0x5F30); len(v) == 2 {
		if n, err := tlv.Numeric(v); err == nil && n <= 999 {
			c.ServiceCode = string([]byte{'0' + byte(n/100), '0' + byte(n/10%10), '0' + byte(n%10)})
		}
	}
	if s.config.Encrypter == nil {
		return c, nil
	}
	e, err := s.config.Encrypter.Encrypt(clearText)
	if err != nil {
		return emv.Card{}, &Error{Step: "read", Reason: ErrEncrypter, cause: err}
	}
	c.Data = e
	return c, nil
}

// Authorize does data authentication, restrictions, cardholder verification,
// risk management and action analysis, and asks for the first cryptogram. The
// amounts may differ from those of Read in value, not in currency. After it
// has sent GENERATE AC an error does not say that the card did nothing.
func (s *Session) Authorize(ctx context.Context, a emv.Amounts) (emv.Outcome, error) {
	ctx, end, err := s.begin(ctx, read, "authorize")
	if err != nil {
		return emv.Outcome{}, err
	}
	defer end()
	s.stage = done
	if a.CurrencyNumeric != s.terms.CurrencyNumeric || a.Exponent != s.terms.Exponent {
		return emv.Outcome{}, &Error{Step: "amounts", Reason: ErrTerms}
	}
	if err := s.setAmounts(a); err != nil {
		return emv.Outcome{}, err
	}
	if !s.amountsFit(s.cdol1) || !s.amountsFit(s.cdol2) {
		return emv.Outcome{}, &Error{Step: "amounts", Reason: ErrAmount}
	}
	if err := s.authenticate(ctx); err != nil {
		return emv.Outcome{}, err
	}
	s.restrict()
	if err := s.verifyCardholder(ctx); err != nil {
		return emv.Outcome{}, err
	}
	if err := s.manageRisk(ctx); err != nil {
		return emv.Outcome{}, err
	}
	if err := s.certificateHash(); err != nil {
		return emv.Outcome{}, unusable(stepAC, err, 0)
	}
	host := HostPossible
	if offlineOnly(s.config.Type) {
		host = OfflineOnly
	}
	out, err := s.firstCryptogram(ctx, s.analyse(host).Cryptogram)
	if err == nil && out.Decision == emv.OnlineRequest {
		s.stage = online
	}
	return out, err
}

func (s *Session) firstCryptogram(ctx context.Context, want byte) (emv.Outcome, error) {
	c, signatureFailed, err := s.generate(ctx, want, s.cdol1, false)
	if err != nil {
		return emv.Outcome{}, err
	}
	s.tsi.Set(CardRiskPerformed)
	s.firstTVR = s.tvr
	s.keep(c)
	if c.kind != want {
		s.note("card", "the card answered "+KindName(c.cid)+" where "+KindName(want)+" was asked for", "B3 10.8")
	}
	if signatureFailed {
		s.tvr.Set(CDAFailed)
		s.firstTVR = s.tvr
		s.arc = arcDeclinedOffline
		if c.kind == ARQC {
			// Book 4 section 6.3.2: not online; the card is closed with AAC.
			s.data.set(fromTransaction, 0x8A, []byte(s.arc))
			if c2, _, err := s.generate(ctx, AAC, s.cdol2, true); err == nil {
				s.keep(c2)
			}
		}
		return s.outcome(emv.Declined), nil
	}
	switch c.kind {
	case TC:
		s.arc = arcApprovedOffline
		return s.outcome(emv.Approved), nil
	case ARQC:
		if offlineOnly(s.config.Type) {
			// Nobody can be asked: close at once (Book 4 section 6.3.7).
			s.askedIssuer = true
			return s.issuerAnswer(ctx, emv.HostResponse{})
		}
		return s.outcome(emv.OnlineRequest), nil
	}
	s.arc = arcDeclinedOffline
	if c.cid&7 == 1 {
		s.note("card", "the card does not offer this service", "B3 10.8")
	}
	return s.outcome(emv.Declined), nil
}

// Complete gives the issuer's answer, or its absence, to the card. When it
// returns an error the outcome still says whether a reversal is needed.
func (s *Session) Complete(ctx context.Context, h emv.HostResponse) (emv.Outcome, error) {
	own, end, err := s.begin(ctx, online, "complete")
	if err != nil {
		out := emv.Outcome{Decision: emv.Declined, ReversalNeeded: h.Reached && h.Approved}
		return out, err
	}
	defer end()
	s.stage = done
	s.askedIssuer = true
	return s.issuerAnswer(own, h)
}
