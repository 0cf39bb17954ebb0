package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/transcript"
	virtual "tillbridge/drivers/virtual/abecs"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe/mask"
)

func readTraces(t *testing.T, dir string) (text []byte, entries []transcript.Entry) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
		e, err := transcript.ParseTranscript(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		entries = append(entries, e...)
	}
	return text, entries
}

// A whole sale on a pad, recorded from the open or from its middle: nothing of
// the card and nothing of the PIN is in the file, and the file can be read.
func TestTraceOfASaleHoldsNoCardData(t *testing.T) {
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		t.Fatal(err)
	}
	p.ODA = virtualcard.ODANone
	card, err := virtualcard.New(&virtualcard.Options{Seed: 7}, p)
	if err != nil {
		t.Fatal(err)
	}
	driver := abecs.New()
	for _, middle := range []bool{false, true} {
		for _, entry := range []string{"insert", "tap"} {
			t.Run(fmt.Sprintf("%s, from the middle %t", entry, middle), func(t *testing.T) {
				pad, err := virtual.New(virtual.Options{Keys: []virtual.InitialKey{
					{Use: "pin", KSN: "FFFF9876543210E00000", Key: "6AC292FAA1315B4D858AB3A3D7D5933A"},
					{Use: "data", KSN: "FFFF9876543211E00000", Key: "5AC292FAA1315B4D858AB3A3D7D5933B"},
				}, Cards: map[string]*virtualcard.Card{"visa-credit": card}})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []virtual.Step{{Do: entry, Card: "visa-credit"}, {Do: "pin"}} {
					if err := pad.Do(s); err != nil {
						t.Fatal(err)
					}
				}
				tr := newTracer(t.TempDir())
				tr.redactors["pad"] = driver
				start := func() {
					if err := tr.start("", time.Minute); err != nil {
						t.Fatal(err)
					}
				}
				if !middle {
					start()
				}
				host, device := drivertest.Pipe(drivertest.PipeOptions{})
				done := make(chan struct{})
				go func() { defer close(done); pad.Run(context.Background(), device.Stream()) }()
				dev, err := driver.Open(t.Context(), tr.wrap("pad", host), drivers.Config{})
				if err != nil {
					t.Fatal(err)
				}
				pay, err := dev.(drivers.CardSession).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if middle {
					start()
				}
				terms := emv.Terms{Amounts: emv.Amounts{Amount: 1000, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}, Time: time.Now()}
				if _, err := pay.Read(t.Context(), terms); err != nil {
					t.Fatal(err)
				}
				if _, err := pay.Authorize(t.Context(), terms.Amounts); err != nil {
					t.Fatal(err)
				}
				if _, err := pay.Complete(t.Context(), emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}); err != nil {
					t.Fatal(err)
				}
				dev.Close()
				<-done
				tr.stop()
				text, entries := readTraces(t, tr.dir)
				if len(entries) < 8 {
					t.Fatalf("%d turns were recorded", len(entries))
				}
				var wire []byte
				var said []string
				for _, e := range entries {
					wire = append(wire, e.Data...)
					said = append(said, driver.Describe(e.Dir == transcript.Read, e.Data)...)
				}
				forms := map[string][]byte{"number": []byte(card.PAN()), "hex of it": []byte(hex.EncodeToString([]byte(card.PAN()))),
					"middle digits": []byte(card.PAN()[6:12])}
				forms["packed"], _ = hex.DecodeString(card.PAN())
				for name, f := range forms {
					for where, b := range map[string][]byte{"file": text, "bytes": wire, "description": []byte(strings.Join(said, "\n"))} {
						if bytes.Contains(bytes.ToUpper(b), bytes.ToUpper(f)) {
							t.Errorf("the %s is in the %s", name, where)
						}
					}
				}
				if found := mask.Scan([]byte(strings.Join(said, "\n"))); len(found) > 0 {
					t.Errorf("the description holds %d numbers", len(found))
				}
				sealed := strings.Count(strings.Join(said, "\n"), "encrypted packet")
				if sealed < 6 {
					t.Errorf("%d encrypted packets are described: %q", sealed, said)
				}
			})
		}
	}
}

// A port that flaps while a trace is on must not fill the disk.
func TestTraceKeepsFewFiles(t *testing.T) {
	tr := newTracer(t.TempDir())
	if err := tr.start("", time.Minute); err != nil {
		t.Fatal(err)
	}
	for range 3 * traceFiles {
		host, device := drivertest.Pipe(drivertest.PipeOptions{})
		line := tr.wrap("pad", host)
		if _, err := line.Write(t.Context(), []byte{0x18}); err != nil {
			t.Fatal(err)
		}
		line.Close()
		device.Close()
		time.Sleep(2 * time.Millisecond) // file names have milliseconds
	}
	tr.stop()
	files, _ := filepath.Glob(filepath.Join(tr.dir, "*"))
	if len(files) > traceFiles || len(files) < traceFiles/2 {
		t.Errorf("%d files are left", len(files))
	}
}
