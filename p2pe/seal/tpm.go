package seal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tillbridge/p2pe/secret"
)

// tpmKeeper seals the root key in a TPM 2.0 under its storage root key (ECC
// P-256, the owner hierarchy), with an authorisation value. Objects do not
// count towards the chip's lockout (noDA): a wrong value at the till must not
// lock the disk encryption of the machine. Commands that carry the secret use
// a salted session with parameter encryption, so that it does not cross the bus
// in clear.
type tpmKeeper struct {
	device string
	dir    string
	auth   []byte
}

const tpmAuthFile = "tpm.auth"

func (k *tpmKeeper) kind() string { return KindTPM }

func (k *tpmKeeper) insecure([]byte) string { return "" }

func (k *tpmKeeper) authPath() string { return filepath.Join(k.dir, tpmAuthFile) }

// value returns the authorisation value, made at the first use.
func (k *tpmKeeper) value() ([]byte, error) {
	return authValue(k.auth, k.authPath())
}

func authValue(given []byte, path string) ([]byte, error) {
	if given != nil {
		return tpmAuth(given), nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = make([]byte, 32)
		_, _ = rand.Read(data)
		err = writeDurably(path, data)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the authorisation value: %w", ErrSealer, err)
	}
	return tpmAuth(data), nil
}

// tpmAuth turns any bytes into an authorisation value of 32 hex digits: a chip
// drops zero bytes at the end of a value, and the library cuts it at the first,
// so that raw random bytes fail now and then.
func tpmAuth(b []byte) []byte {
	sum := sha256.Sum256(b)
	return []byte(hex.EncodeToString(sum[:16]))
}

// chip is a connection to a TPM for one run of commands.
type chip struct {
	transport.TPM
	close func() error
}

func (c chip) end() { _ = c.close() }

func (c chip) flush(h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(c.TPM)
}

// openChip opens the device or socket. Commands end by ctx.
func openChip(ctx context.Context, device string) (chip, error) {
	if device == "" {
		device = defaultTPM
	}
	c, err := dialChip(ctx, device)
	if err != nil {
		return chip{}, fmt.Errorf("%w: open the TPM %s: %w: check that the machine has a TPM 2.0 and that the account may use it (group tss)", ErrSealer, device, err)
	}
	return c, nil
}

// root makes the storage root key, which is the same each time until the chip
// is cleared.
func (c chip) root() (*tpm2.CreatePrimaryResponse, *tpm2.TPMTPublic, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c.TPM)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: make the TPM's storage root key: %w: clear the owner authorisation, or choose another sealer", ErrSealer, err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		c.flush(rsp.ObjectHandle)
		return nil, nil, fmt.Errorf("%w: read the TPM's storage root key: %w", ErrSealer, err)
	}
	return rsp, public, nil
}

func (k *tpmKeeper) wrap(ctx context.Context, root []byte) ([]byte, error) {
	auth, err := k.value()
	if err != nil {
		return nil, err
	}
	c, err := openChip(ctx, k.device)
	if err != nil {
		return nil, err
	}
	defer c.end()
	srk, public, err := c.root()
	if err != nil {
		return nil, err
	}
	defer c.flush(srk.ObjectHandle)
	data := append([]byte(nil), root...)
	defer clear(data)
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: srk.ObjectHandle, Name: srk.Name,
			Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.Salted(srk.ObjectHandle, *public))},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: auth},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
		}),
	}.Execute(c.TPM)
	if err != nil {
		return nil, fmt.Errorf("%w: seal in the TPM: %w", ErrSealer, err)
	}
	out := appendPart(nil, rsp.OutPublic.Bytes())
	return appendPart(out, rsp.OutPrivate.Buffer), nil
}

func (k *tpmKeeper) unwrap(ctx context.Context, blob []byte) (*secret.Buffer, error) {
	public, rest, ok := cutPart(blob)
	private, rest, ok2 := cutPart(rest)
	if !ok || !ok2 || len(rest) != 0 {
		return nil, fmt.Errorf("%w (root key)", ErrUnseal)
	}
	auth, err := k.value()
	if err != nil {
		return nil, err
	}
	c, err := openChip(ctx, k.device)
	if err != nil {
		return nil, err
	}
	defer c.end()
	srk, srkPublic, err := c.root()
	if err != nil {
		return nil, err
	}
	defer c.flush(srk.ObjectHandle)
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: srk.ObjectHandle, Name: srk.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](public),
	}.Execute(c.TPM)
	if err != nil {
		return nil, fmt.Errorf("%w (the TPM is another one or was cleared: %w)", ErrUnseal, err)
	}
	defer c.flush(loaded.ObjectHandle)
	rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name,
		Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth), tpm2.AESEncryption(128, tpm2.EncryptOut), tpm2.Salted(srk.ObjectHandle, *srkPublic)),
	}}.Execute(c.TPM)
	if err != nil {
		return nil, tpmError(ErrUnseal, err)
	}
	return secret.Take(rsp.OutData.Buffer)
}

// tpmError tells a refused authorisation value from other errors.
func tpmError(kind, err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w (%w)", ErrAuth, err)
	}
	return fmt.Errorf("%w (TPM: %w)", kind, err)
}

func appendPart(dst, part []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(part))), part...)
}

func cutPart(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// deadline is when a call must end.
func deadline(ctx context.Context) time.Time {
	if t, ok := ctx.Deadline(); ok {
		return t
	}
	return time.Now().Add(callTimeout)
}
