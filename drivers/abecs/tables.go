package abecs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Tables are EMV table records with their version, as the parameter "tables"
// names them in a file.
type Tables struct {
	Version string   // ten characters
	Records []string // see [drivers.TableLoader]
}

// maxTables bounds the file: 300 keys of 611 characters are more than any pad
// holds.
const maxTables = 256 << 10

// ParseTables reads a file of tables: the version alone on the first line, one
// record on each further line. Empty lines, and lines that begin with '#', are
// left out.
func ParseTables(text []byte) (Tables, error) {
	var t Tables
	if len(text) > maxTables {
		return t, fmt.Errorf("abecs: a file of tables has at most %d bytes", maxTables)
	}
	for n, raw := range bytes.Split(text, []byte("\n")) {
		line := strings.TrimSuffix(string(raw), "\r")
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#':
		case printable(line) != nil:
			return Tables{}, fmt.Errorf("abecs: line %d of the tables holds a character that the pad does not have", n+1)
		case t.Version == "" && len(line) != 10:
			return Tables{}, fmt.Errorf("abecs: line %d of the tables: the first line is the version, ten characters", n+1)
		case t.Version == "":
			t.Version = line
		default:
			t.Records = append(t.Records, line)
		}
	}
	if _, err := tableBlocks(t.Records); err != nil {
		return Tables{}, err
	}
	if strings.Trim(t.Version, "0 ") == "" {
		return Tables{}, fmt.Errorf("abecs: a table version of zeros and blanks is that of an empty pad; choose another")
	}
	return t, nil
}

// tableTime bounds a load: a hundred keys at 19200 baud take half a minute.
const tableTime = 5 * time.Minute

// updateTables loads the configured tables where the pad holds another
// version. The load goes on when the time of Open is over, and stops when Open
// is cancelled. The caller has the link.
func (d *device) updateTables(ctx context.Context) error {
	if d.set.Tables == "" {
		return nil
	}
	text, err := os.ReadFile(d.set.Tables)
	if err != nil {
		return fmt.Errorf("abecs: tables: %w", err)
	}
	t, err := ParseTables(text)
	if err != nil {
		return fmt.Errorf("%w (%s)", err, d.set.Tables)
	}
	have, err := d.tableVersion(ctx)
	want := strings.TrimRight(t.Version, " ")
	if err != nil || have == want {
		return err
	}
	d.log.Info("the pad holds other tables; loading", "device", d.info.Port.Path, "has", have, "loads", t.Version, "records", len(t.Records))
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), tableTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled {
			cancel()
		}
	})()
	if err := d.loadTables(long, t.Version, t.Records); err != nil {
		return err
	}
	if have, err = d.tableVersion(long); err == nil && have != want {
		err = fmt.Errorf("%w: the pad took the tables and has version %q", TableDiffers, have)
	}
	return err
}
