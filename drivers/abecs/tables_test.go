package abecs_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/abecs"
)

// aidRecord is a table record for one application of seven bytes.
func aidRecord(acquirer, record, aid string) string {
	return strings.Join([]string{"284", "1", acquirer, record, "07", aid + strings.Repeat("0", 18), "01", "CREDITO         ", "03",
		"008C", "008D", "0096", "250", "978", "2", "MERCHANT0000001", "5999", "TERM0001", "E06800", "7000F0A001", "22",
		"DC4000A800", "0010000000", "DC4004F800", "00000000", "R", "1", "1", "00001000", "00000000", "00000500", "0096", "0",
		strings.Repeat("0", 40), strings.Repeat("0", 40), "Y1Z1Y3Z3"}, "")
}

// A pad with other tables than the configured ones is loaded when it is
// opened, once; and pays with them.
func TestTablesAreLoadedAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tables.txt")
		write := func(version string, records ...string) {
			if err := os.WriteFile(file, []byte(version+"\n"+strings.Join(records, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := (&shelf{}).pad()
		open := func() (wrote int, version string) {
			host, device := drivertest.Pipe(drivertest.PipeOptions{})
			done := make(chan struct{})
			go func() { defer close(done); p.Run(context.Background(), device.Stream()) }()
			own := map[string]string{"tables": file, "acquirer": "07", "pin_slot": "1", "data_slot": "2"}
			count := &counted{Transport: host}
			dev, err := driver.Open(t.Context(), count, drivers.Config{Params: own})
			if err != nil {
				t.Fatal(err)
			}
			version, err = dev.(drivers.TableLoader).TableVersion(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if version == "TEST000002" {
				do(t, p, virtual.Step{Do: "insert", Card: "visa-credit"}, virtual.Step{Do: "pin"}, virtual.Step{Do: "remove"})
				if got, err := sale(t.Context(), dev); err != nil || !strings.HasPrefix(got, "approved 1000") {
					t.Errorf("a sale on the loaded tables: %s, %v", got, err)
				}
			}
			wrote = count.n
			dev.Close()
			<-done
			return wrote, version
		}
		var many []string
		for range 12 {
			many = append(many, aidRecord("07", "01", "A0000000041010"))
		}
		write("TEST000001", many...)
		first, v := open()
		if v != "TEST000001" {
			t.Fatalf("version %q after the first open", v)
		}
		second, v := open()
		if v != "TEST000001" || second+3000 > first {
			t.Errorf("version %q, %d bytes written where %d loaded the tables: loaded again", v, second, first)
		}
		write("TEST000002", aidRecord("07", "01", "A0000000031010"))
		if _, v := open(); v != "TEST000002" {
			t.Errorf("version %q after the file changed", v)
		}
	})
}

type counted struct {
	drivers.Transport
	n int
}

func (c *counted) Write(ctx context.Context, p []byte) (int, error) {
	c.n += len(p)
	return c.Transport.Write(ctx, p)
}
