package drivers

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A bus that cannot be looked at is no loose cable: the device says which kind
// of port cannot be looked for, and the log says so once.
func TestABusThatFailsIsTold(t *testing.T) {
	var log bytes.Buffer
	o := SupervisorOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.mu.Lock()
		b.bad = true
		b.mu.Unlock()
		time.Sleep(time.Hour)
		if st := s.Devices()[0]; st.State != StateAbsent || !strings.Contains(st.Detail, "bus is ill") {
			t.Errorf("state %s, detail %q", st.State, st.Detail)
		}
		if got := s.BusFaults(); len(got) != 1 || got[0] != "bus is ill" {
			t.Errorf("bus faults %q", got)
		}
		b.mu.Lock()
		b.bad = false
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if st := s.Devices()[0]; strings.Contains(st.Detail, "bus is ill") || len(s.BusFaults()) != 0 {
			t.Errorf("the bus is well and the detail is %q", st.Detail)
		}
	})
	if n := strings.Count(log.String(), "cannot be looked for"); n != 1 {
		t.Errorf("the fault was logged %d times in an hour", n)
	}
}
