package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
	"tillbridge/p2pe/mask"
)

// Error is an error of the handlers themselves.
type Error struct {
	ErrorCode string
	Detail    string
	Location  string
	Payment   *payment.Payment // the record that the answer is about
	Operation *payment.Operation
}

func (e *Error) Error() string { return e.ErrorCode + ": " + e.Detail }

// Code is the dotted code.
func (e *Error) Code() string { return e.ErrorCode }

// kind is what the catalogue knows of a code.
type kind struct {
	status   int
	title    string
	category string
	retry    string // safe, after, forbidden, never
	after    int    // seconds, with retry after
	moved    string // money_moved when no record says it
	operator map[string]string
	hint     string
}

func words(en, de, pt string) map[string]string {
	return map[string]string{"en": en, "de": de, "pt": pt}
}

var (
	tillFault = words("The till sent something wrong. Nothing was charged.", "Die Kasse hat etwas Falsches gesendet. Es wurde nichts abgebucht.", "O caixa enviou algo errado. Nada foi cobrado.")
	notLetIn  = words("This till is not allowed to use the card terminal.", "Diese Kasse darf das Kartengerät nicht benutzen.", "Este caixa não pode usar o terminal de cartões.")
	askAgain  = words("Not finished. Do not run the card again; ask for the result.", "Noch nicht fertig. Karte nicht noch einmal benutzen; Ergebnis abfragen.", "Não terminou. Não passe o cartão de novo; consulte o resultado.")
	isBusy    = words("The card terminal is busy with another payment.", "Das Kartengerät bearbeitet eine andere Zahlung.", "O terminal está ocupado com outro pagamento.")
	notNow    = words("Card payments are not possible right now. Nothing was charged.", "Kartenzahlung ist gerade nicht möglich. Es wurde nichts abgebucht.", "Pagamento com cartão indisponível. Nada foi cobrado.")
)

// catalogue lists every code that the API answers with.
var catalogue = map[string]kind{
	"request.not_json":      {400, "The body is not the JSON that was expected", "request", "safe", 0, "no", tillFault, "look at what the till sends: tillbridge trace"},
	"request.unknown_field": {400, "The body has a field that is not known", "request", "safe", 0, "no", tillFault, "the till was written for another version"},
	"request.invalid_field": {400, "A field has a value that is not accepted", "request", "safe", 0, "no", tillFault, "the till's integration has to change"},
	"request.card_data":     {400, "The request holds a card number", "security", "safe", 0, "no", tillFault, "a till must never send card numbers; find where the number is typed or scanned"},
	"request.too_large":     {413, "The body is too large", "limit", "safe", 0, "no", tillFault, "bodies have at most 64 KiB"},
	"request.media_type":    {415, "The body is not application/json", "request", "safe", 0, "no", tillFault, "set Content-Type: application/json"},
	"request.key_missing":   {400, "Idempotency-Key is missing", "request", "safe", 0, "no", tillFault, "one key per sale attempt of the customer, kept across retries"},
	"request.key_invalid":   {400, "Idempotency-Key is not accepted", "request", "safe", 0, "no", tillFault, "one key per sale attempt of the customer, kept across retries"},
	"request.key_reused":    {422, "Idempotency-Key was used for another request", "request", "forbidden", 0, "unknown", askAgain, "the till changed the body and kept the key; look the first request up by its key"},
	"request.in_progress":   {409, "The first request with this key is still running", "request", "after", 2, "unknown", askAgain, "follow Location until the payment has ended"},
	"request.method":        {405, "The method is not allowed here", "request", "safe", 0, "no", tillFault, ""},
	"request.path":          {404, "There is no such path", "request", "safe", 0, "no", tillFault, ""},
	"request.header":        {400, "A header is not accepted", "request", "safe", 0, "no", tillFault, ""},
	"request.query":         {400, "A query parameter is not accepted", "request", "safe", 0, "no", tillFault, ""},
	"request.not_supported": {422, "This version does not offer that", "request", "safe", 0, "no", tillFault, ""},

	"auth.missing":     {401, "No key was sent", "security", "safe", 0, "no", notLetIn, "the till must send Authorization: Bearer with the key of its register (register.key in the configuration)"},
	"auth.unknown_key": {401, "The key is not known", "security", "safe", 0, "no", notLetIn, "compare the till's key with register.key of the configuration: tillbridge config show prints its fingerprint"},
	"auth.role":        {403, "The key may not do this", "security", "safe", 0, "no", notLetIn, "a manager's key is needed"},
	"auth.scope":       {403, "The key belongs to another register", "security", "safe", 0, "no", notLetIn, "each register uses its own key"},
	"auth.host":        {421, "The request names another machine", "security", "safe", 0, "no", notLetIn, "the till must call http://127.0.0.1:8710; other names go to api.hosts"},
	"auth.origin":      {403, "The web page's origin is not allowed", "security", "safe", 0, "no", notLetIn, "add the till's origin to api.origins"},

	"payment.not_found":          {404, "No such payment", "request", "safe", 0, "unknown", nil, "search by reference: tillbridge tx list"},
	"refund.not_found":           {404, "No such refund", "request", "safe", 0, "unknown", nil, ""},
	"payment.too_late_to_cancel": {409, "Too late to cancel", "card", "forbidden", 0, "unknown", words("Too late to cancel. Wait for the result, then void it.", "Zu spät zum Abbrechen. Ergebnis abwarten, dann stornieren.", "Tarde demais para cancelar. Espere o resultado e depois estorne."), ""},
	"payment.not_allowed":        {409, "The payment's state does not allow this", "request", "never", 0, "unknown", nil, "tillbridge tx show"},
	"device.busy":                {409, "The register works on another payment", "device", "after", 5, "no", isBusy, "a forgotten payment: tillbridge devices list"},
	"device.absent":              {503, "The register's device is not there", "device", "after", 10, "no", notNow, "tillbridge devices list"},
	"register.closed":            {409, "The register is closed until something is settled", "device", "forbidden", 0, "no", words("This register is closed until an earlier payment is settled. Nothing was charged.", "Diese Kasse ist gesperrt, bis eine frühere Zahlung geklärt ist. Es wurde nichts abgebucht.", "Este caixa está bloqueado até um pagamento anterior ser resolvido. Nada foi cobrado."), "tillbridge tx in-doubt"},
	"refund.not_allowed":         {409, "That much cannot be given back", "request", "never", 0, "no", words("This amount cannot be refunded.", "Dieser Betrag kann nicht erstattet werden.", "Este valor não pode ser estornado."), "tillbridge tx show"},
	"request.invalid":            {422, "The request is not acceptable", "request", "safe", 0, "no", tillFault, ""},
	"store.unavailable":          {503, "The store did not answer", "device", "after", 5, "unknown", askAgain, "ask again with the same Idempotency-Key; tillbridge status"},
	"store.record_unreadable":    {500, "A record cannot be read", "device", "forbidden", 0, "unknown", askAgain, "the record is kept as it is: look the payment up at the acquirer by reference and time, and keep the store for support"},
	"engine.stopping":            {503, "The agent is starting or stopping", "config", "after", 5, "no", notNow, "tillbridge status; if it lasts, look at the agent's log"},
	"register.unknown":           {422, "No such register", "config", "safe", 0, "no", tillFault, "registers are listed in the configuration: tillbridge config show"},
	"store.full":                 {503, "The store is full", "limit", "after", 60, "no", notNow, "tillbridge status; free disk space"},
	"control.not_found":          {404, "No such entry", "request", "safe", 0, "no", nil, ""},
	"internal":                   {500, "The agent failed", "config", "after", 5, "unknown", askAgain, "look at the agent's log; ask again with the same Idempotency-Key"},
}

// fail writes err as a problem document.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r, err)
	if e, ok := errors.AsType[*Error](err); ok && e.Location != "" {
		w.Header().Set("Location", e.Location)
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tillbridge"`)
	}
	if p.ErrorCode == "internal" {
		s.o.Log.Error("api: request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	} else {
		s.o.Log.Info("api: request refused", "method", r.Method, "code", p.ErrorCode, "field", p.Field, "status", p.Status)
	}
	s.metrics.problem(p.ErrorCode)
	b, _ := json.Marshal(p) // a struct of texts cannot fail
	w.Header().Set("Content-Type", api.ProblemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	w.Write(append(b, '\n'))
}

// problem looks an error up in the catalogue. The text of an error that is not
// listed is not shown: nobody checked it.
func (s *Server) problem(r *http.Request, err error) *api.Problem {
	code, detail := "internal", "the agent could not do this; ask again with the same Idempotency-Key, and look the payment up before the card is run again"
	var coded interface{ Code() string }
	if errors.As(err, &coded) {
		if _, ok := catalogue[coded.Code()]; ok {
			code, detail = coded.Code(), mask.Redact(err.Error())
		}
	}
	k := catalogue[code]
	p := &api.Problem{
		Type: api.ProblemURN(code), Title: k.title, Status: k.status, Detail: detail,
		ErrorCode: code, Category: k.category, MoneyMoved: k.moved, Retry: k.retry, RetryAfter: k.after,
		OperatorMessage: k.operator, TechnicianHint: k.hint, Doc: "README.md, When something is wrong",
	}
	if f, ok := errors.AsType[*api.FieldError](err); ok {
		p.Field, p.Nearest = f.Field, f.Nearest
	}
	if e, ok := errors.AsType[*Error](err); ok {
		p.Detail = e.Detail
		switch {
		case e.Payment != nil:
			p.PaymentID, p.MoneyMoved = e.Payment.ID, string(e.Payment.MoneyMoved())
			p.Instance = "/v1/payments/" + e.Payment.ID
		case e.Operation != nil:
			p.PaymentID, p.MoneyMoved = e.Operation.PaymentID, string(e.Operation.MoneyMoved())
			p.Instance = "/v1/refunds/" + e.Operation.ID
		}
	}
	// What the engine says of this very request is truer than what the
	// catalogue supposes, and what the record says is truer still.
	var moved interface{ MoneyMoved() payment.Moved }
	if errors.As(err, &moved) {
		p.MoneyMoved = string(moved.MoneyMoved())
	}
	var of interface{ PaymentID() string }
	if errors.As(err, &of) && of.PaymentID() != "" { // or the id of an operation
		if rec, err := s.o.Engine.Payment(r.Context(), of.PaymentID()); err == nil {
			p.PaymentID, p.MoneyMoved = rec.ID, string(rec.MoneyMoved())
			p.Instance = "/v1/payments/" + rec.ID
		}
	}
	var blocked interface{ Blocking() payment.Payment }
	if errors.As(err, &blocked) {
		b := blocked.Blocking()
		p.PaymentID = b.ID
		p.Instance = "/v1/payments/" + b.ID
		p.Blocking = &api.Blocking{PaymentID: b.ID, Status: string(b.State.Status), Amount: amountOf(b.Request.Amount)}
	}
	return p
}
