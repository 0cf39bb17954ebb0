package agent

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tillbridge/agent/api"
	"tillbridge/agent/config"
	"tillbridge/agent/engine"
	"tillbridge/agent/keyring"
	"tillbridge/emv/contact"
	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/seal"
)

// Errors of the encryption that the configuration asks for.
var (
	errOtherKey error = p2pe.NewFault("keys.other", "the imported key is not the one that encryption.key names: "+
		"correct encryption.key, or load the other key (tillbridge keys zeroize, then keys import)")
	errNotAES error = p2pe.NewFault("keys.not_aes", "the imported key is a TDES key, and card data are encrypted here under AES DUKPT alone: "+
		"ask the acquirer for an AES initial key (tillbridge keys zeroize, then keys import)")
)

// KeyDir is the directory of the keys of software encryption.
func KeyDir(c *config.Config) string { return filepath.Join(c.Agent.Data, "keys") }

// encryption turns card data of readers that do not encrypt into ciphertext, in
// this process. Under DUKPT its key set is opened when it is needed first, and
// again after a fault, so that a key imported while the agent runs is used by
// the next payment.
type encryption struct {
	c *config.Config

	mu      sync.Mutex
	ring    *keyring.Keyring
	journal *seal.Journal
	jwe     []byte // PKIX form of the acquirer's key
}

var (
	_ engine.Encryption = (*encryption)(nil)
	_ seal.KeySource    = (*encryption)(nil)
)

// longestRSA is the longest key whose JWE of a card fits DE63 with its 999 bytes.
const longestRSA = 3072

// openEncryption reads what is fixed in the configuration. The error of a key
// that is not there yet comes with the payments, and in the status: other
// lanes do not need it.
func openEncryption(c *config.Config, path string) (*encryption, error) {
	e := &encryption{c: c}
	if c.Encryption.Kind != "jwe" {
		return e, nil
	}
	data, err := os.ReadFile(c.Encryption.PublicKey)
	if err != nil {
		return nil, config.Refuse(path, "encryption.public_key", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, config.Refuse(path, "encryption.public_key", fmt.Errorf("%s holds no PEM block PUBLIC KEY: ask the acquirer for the key in PKIX form", c.Encryption.PublicKey))
	}
	e.jwe = block.Bytes
	if key, err := x509.ParsePKIXPublicKey(e.jwe); err == nil {
		if r, ok := key.(*rsa.PublicKey); ok && r.N.BitLen() > longestRSA {
			return nil, config.Refuse(path, "encryption.public_key", fmt.Errorf("an RSA key of %d bits makes ciphertext that does not fit the message to the acquirer: ask for a key on P-256, or RSA of at most %d bits", r.N.BitLen(), longestRSA))
		}
	}
	if _, err := e.encrypter(""); err != nil {
		return nil, config.Refuse(path, "encryption.thumbprint", err)
	}
	return e, nil
}

// encrypter makes the encrypter of one reader, which serial names.
func (e *encryption) encrypter(serial string) (contact.Encrypter, error) {
	switch k := e.c.Encryption; k.Kind {
	case "dukpt":
		return engine.SealedBy(seal.NewDUKPT(e, serial)), nil
	case "jwe":
		j, err := seal.NewJWE(e.jwe, &seal.JWEOptions{KeyID: k.KeyID, Thumbprint: strings.ToLower(k.Thumbprint), Serial: serial})
		if err != nil {
			return nil, err
		}
		return engine.SealedBy(j), nil
	}
	return nil, nil
}

// Ready reports whether there is a key, with the error to tell where not.
func (e *encryption) Ready(ctx context.Context) error {
	if e.c.Encryption.Kind != "dukpt" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready(ctx)
}

func (e *encryption) ready(ctx context.Context) error {
	if e.journal != nil {
		err := e.journal.Ready()
		if err == nil || errors.Is(err, dukpt.ErrExhausted) {
			return err
		}
		e.shut()
	}
	if err := e.open(ctx); err != nil {
		e.shut()
		return err
	}
	return e.journal.Ready()
}

// open opens the live key set, if it is the one that is meant.
func (e *encryption) open(ctx context.Context) (err error) {
	e.ring, err = keyring.Open(ctx, KeyDir(e.c), &keyring.Options{Sealer: e.c.Keys.Sealer, TPM: e.c.Keys.TPM})
	if err != nil {
		return err
	}
	if set, ok := e.ring.Live(); ok {
		if err := judgeKey(set, e.c.Encryption.Key); err != nil {
			return err
		}
	}
	e.journal, err = e.ring.Source(ctx)
	return err
}

// judgeKey refuses a key set that is not the one that the configuration names,
// or of a kind that card data are not encrypted under.
func judgeKey(set keyring.Set, named string) error {
	switch {
	case named != "" && !strings.EqualFold(set.Device, named):
		return fmt.Errorf("%w (loaded: %s)", errOtherKey, set.Device)
	case set.Scheme != p2pe.SchemeAESDUKPT:
		return errNotAES
	}
	return nil
}

func (e *encryption) shut() {
	if e.journal != nil {
		_ = e.journal.Close() // keys that were reserved are given up
		e.journal = nil
	}
	if e.ring != nil {
		e.ring.Close()
		e.ring = nil
	}
}

// Next is the next key of the journal, which is durable without it by then.
func (e *encryption) Next() (*dukpt.Transaction, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.journal == nil {
		return nil, keyring.ErrNoKey
	}
	return e.journal.Next()
}

// close erases the keys in memory.
func (e *encryption) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shut()
}

// notEncrypted is what people read where card data cannot be encrypted.
func notEncrypted(fault error) api.Alert {
	alert := api.Alert{Code: "device.no_encrypter", Severity: "critical", Remedy: "tillbridge keys status",
		Text: "readers that do not encrypt take no payments: " + engine.Plain(fault)}
	if c, ok := errors.AsType[interface {
		error
		Code() string
	}](fault); ok {
		alert.Code = c.Code()
	}
	return alert
}

// left says how many keys there are still, nil where nothing is counted.
func (e *encryption) left() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.journal == nil {
		return nil
	}
	next := e.journal.KSN()
	left, total, err := dukpt.Left(next)
	if err != nil {
		return nil
	}
	return map[string]string{"card data": fmt.Sprintf("next %s, %d of %d left", next, left, total)}
}

// warnings are what a person should know of the key set in use before it stops
// payments.
func (e *encryption) warnings() (out []api.Alert) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		return nil
	}
	for _, s := range e.ring.Status().Sets {
		if s.Level == keyring.LevelWarning || s.Level == keyring.LevelCritical {
			out = append(out, api.Alert{Code: "keys.low", Severity: "warn", Text: "key " + s.Device + ": " + s.Text, Remedy: "tillbridge keys status"})
		}
	}
	return out
}

// softwareText begins what people read of this encryption: what it is, and what
// it is not.
const softwareText = "by this program on this PC, not by the reader: card data are clear in the memory of this process during a payment, and the PC is in scope of the rules for card data"

// text says how card data are encrypted, and a fault that stops it.
func (e *encryption) text(ctx context.Context) (text string, fault error) {
	if e.c.Encryption.Kind == "jwe" {
		return fmt.Sprintf("software encryption (JWE to the acquirer's key %s) %s", e.c.Encryption.KeyID, softwareText), nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if fault = e.ready(ctx); fault != nil {
		return "software encryption (AES DUKPT) " + softwareText, fault
	}
	return fmt.Sprintf("software encryption (AES DUKPT, key %s) %s", e.journal.KSN().Device(), softwareText), nil
}
