package abecs

import (
	"context"
	"fmt"
	"strings"

	"tillbridge/drivers"
)

// s32 lays a text out on two lines of 16.
func s32(text string) []byte {
	first, second, two := strings.Cut(text, "\n")
	if !two && len(first) > 16 {
		first, second = first[:16], first[16:]
	}
	return fmt.Appendf(nil, "%-16.16s%-16.16s", first, second)
}

func printable(text string) error {
	for _, c := range []byte(text) {
		if (c < 0x20 || c > 0x7E) && c != '\n' {
			return fmt.Errorf("abecs: text with a character that the pad does not have; use plain ASCII")
		}
	}
	return nil
}

// Display shows a text: on two lines of 16 where it fits, else in free form.
func (d *device) Display(ctx context.Context, text string) error {
	unlock, err := d.begin(ctx, "DSP")
	if err != nil {
		return err
	}
	defer unlock()
	if err := printable(text); err != nil {
		return d.fail("DSP", err)
	}
	lines := strings.Split(text, "\n")
	small := len(lines) <= 2
	for _, l := range lines {
		small = small && len(l) <= 16
	}
	var packet []byte
	if small {
		packet, err = AppendCommand(nil, "DSP", s32(text))
	} else {
		free := strings.ReplaceAll(text, "\n", "\r")
		packet, err = AppendCommand(nil, "DEX", fmt.Appendf(nil, "%03d%s", len(free), free))
	}
	if err != nil {
		return d.fail("DSP", err)
	}
	_, err = d.send(ctx, packet, false)
	return err
}

// Menu lets the customer choose one of at most 20 options of 24 characters. The
// index counts from 0.
func (d *device) Menu(ctx context.Context, title string, options []string) (int, error) {
	unlock, err := d.begin(ctx, "MNU")
	if err != nil {
		return 0, err
	}
	defer unlock()
	if len(options) == 0 || len(options) > 20 || len(title) > 128 {
		return 0, d.fail("MNU", fmt.Errorf("abecs: a menu has 1 to 20 options and a title of at most 128 characters"))
	}
	p := []Param{{Timeout, []byte{byte(d.set.CustomerWait.Seconds())}}}
	if title != "" {
		p = append(p, Param{Message, []byte(strings.ReplaceAll(title, "\n", "\r"))})
	}
	for _, o := range append([]string{title}, options...) {
		if err := printable(o); err != nil {
			return 0, d.fail("MNU", err)
		}
	}
	for _, o := range options {
		if len(o) == 0 || len(o) > 24 {
			return 0, d.fail("MNU", fmt.Errorf("abecs: an option has 1 to 24 characters"))
		}
		p = append(p, Param{MenuOption, []byte(o)})
	}
	r, err := d.params(ctx, "MNU", true, p...)
	if err != nil {
		return 0, err
	}
	v, _ := r.Find(Value)
	n, ok := number(v)
	if !ok || n < 1 || n > len(options) {
		return 0, d.fail("MNU", fmt.Errorf("%w: choice of a menu", ErrMalformed))
	}
	return n - 1, nil
}

var keyNames = map[Status]string{OK: "enter", KeyF1: "f1", KeyF2: "f2", KeyF3: "f3", KeyF4: "f4", KeyBack: "clear", Cancelled: "cancel"}

// Key waits for one key that is no digit: "enter", "clear", "cancel", "f1" to
// "f4". Digits are never returned by the pad outside its own PIN entry.
func (d *device) Key(ctx context.Context) (string, error) {
	unlock, err := d.begin(ctx, "GKY")
	if err != nil {
		return "", err
	}
	defer unlock()
	packet, err := AppendCommand(nil, "GKY")
	if err != nil {
		return "", d.fail("GKY", err)
	}
	if err := CheckCommand(packet); err != nil {
		return "", d.fail("GKY", err)
	}
	r, err := d.l.exchange(ctx, packet, true, nil)
	if err != nil {
		return "", d.fail("GKY", err)
	}
	if key, ok := keyNames[r.Status]; ok {
		return key, nil
	}
	return "", d.fail("GKY", r.Status)
}

// RemoveCard shows text and waits until no card is in the slot.
func (d *device) RemoveCard(ctx context.Context, text string) error {
	unlock, err := d.begin(ctx, "RMC")
	if err != nil {
		return err
	}
	defer unlock()
	if err := printable(text); err != nil {
		return d.fail("RMC", err)
	}
	packet, err := AppendCommand(nil, "RMC", s32(text))
	if err != nil {
		return d.fail("RMC", err)
	}
	d.session = nil
	_, err = d.send(ctx, packet, true)
	return err
}

// Tables.

// TableVersion is the version of the configured acquirer's tables in the pad,
// or empty.
func (d *device) TableVersion(ctx context.Context) (string, error) {
	unlock, err := d.begin(ctx, "GIX")
	if err != nil {
		return "", err
	}
	defer unlock()
	return d.tableVersion(ctx)
}

// tableVersion is TableVersion for who has the link.
func (d *device) tableVersion(ctx context.Context) (string, error) {
	acq, _ := number([]byte(d.set.Acquirer))
	r, err := d.params(ctx, "GIX", false, Param{IDList, appendIDs(nil, TableVersion(acq))})
	if err != nil {
		return "", err
	}
	version := r.text(TableVersion(acq))
	if strings.Trim(version, "0 ") == "" {
		return "", nil
	}
	return version, nil
}

// LoadTables writes table records (AID records of 284 to 340 characters, CA
// keys of 611) under a version of ten characters. An error leaves the pad
// without valid tables: load again.
func (d *device) LoadTables(ctx context.Context, version string, records []string) error {
	unlock, err := d.begin(ctx, "TLI")
	if err != nil {
		return err
	}
	defer unlock()
	return d.loadTables(ctx, version, records)
}

// loadTables is LoadTables for who has the link.
func (d *device) loadTables(ctx context.Context, version string, records []string) error {
	blocks, err := tableBlocks(records)
	if err != nil {
		return d.fail("TLI", err)
	}
	if len(version) != 10 || printable(version) != nil {
		return d.fail("TLI", fmt.Errorf("abecs: a table version has ten characters"))
	}
	d.session = nil
	packet, err := AppendCommand(nil, "TLI", []byte(d.set.Acquirer+version))
	if err != nil {
		return d.fail("TLI", err)
	}
	if err := CheckCommand(packet); err != nil {
		return d.fail("TLI", err)
	}
	r, err := d.l.exchange(ctx, packet, false, nil)
	if err == nil && r.Status != OK && r.Status != TableDiffers {
		err = r.Status // 020 says that the version differs, which is why it is loaded
	}
	if err != nil {
		return d.fail("TLI", err)
	}
	for _, b := range blocks {
		packet, err := AppendCommand(nil, "TLR", b)
		if err != nil {
			return d.fail("TLR", err)
		}
		if _, err := d.send(ctx, packet, false); err != nil {
			return err
		}
	}
	packet, err = AppendCommand(nil, "TLE")
	if err != nil {
		return d.fail("TLE", err)
	}
	_, err = d.send(ctx, packet, false)
	return err
}

// tableBlocks packs records into blocks: their number in two digits and the
// records, each with its own length in front.
func tableBlocks(records []string) ([][]byte, error) {
	if len(records) == 0 {
		return nil, fmt.Errorf("abecs: no table records: the pad would take no card any more")
	}
	var blocks [][]byte
	var block []byte
	n := 0
	for i, r := range records {
		l, ok := 0, len(r) >= 7
		if ok {
			l, ok = number([]byte(r[:3]))
		}
		switch {
		case !ok || l != len(r):
			return nil, fmt.Errorf("abecs: table record %d does not begin with its own length", i+1)
		case l > MaxBlock-2:
			return nil, fmt.Errorf("abecs: table record %d is longer than a block", i+1)
		case r[3] != '1' && r[3] != '2':
			return nil, fmt.Errorf("abecs: table record %d is neither an application (1) nor a key (2)", i+1)
		}
		if n == 99 || block != nil && len(block)+l > MaxBlock {
			blocks = append(blocks, block)
			block = nil
		}
		if block == nil {
			block, n = []byte("00"), 0
		}
		block = append(block, r...)
		n++
		block[0], block[1] = '0'+byte(n/10), '0'+byte(n%10)
	}
	if block != nil {
		blocks = append(blocks, block)
	}
	return blocks, nil
}

var _ drivers.Input = (*device)(nil)
