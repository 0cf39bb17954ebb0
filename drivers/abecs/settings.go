package abecs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are the parameters of a pad in the configuration.
type Settings struct {
	Baud int // "baud": default 19200; without meaning on USB
	// DataSlot and PINSlot are the slots of the TDES DUKPT keys, 0 to 99
	// ("data_slot", "pin_slot"; default 0).
	DataSlot, PINSlot int
	// DataMethod is how card data is encrypted ("data_method"): 50 TDES DUKPT
	// data key, ECB (default); 51 the same, CBC; 30 TDES DUKPT with the PIN
	// variant, ECB, for pads that know no other.
	DataMethod string
	// Acquirer is the acquirer of the tables ("acquirer", two digits). 00 takes
	// the first that the card fits. Default 00.
	Acquirer string
	// CustomerWait is how long the pad waits for a customer who does nothing
	// ("customer_wait", seconds up to 255; default 60).
	CustomerWait time.Duration
	// ForceOnline asks for an online authorisation of every chip payment
	// ("force_online", default true).
	ForceOnline bool
	// SwipePIN asks for the PIN of a swiped card whose service code demands it
	// ("swipe_pin", default true).
	SwipePIN bool
	// Tables is a file of EMV tables ("tables", see [ParseTables]): a pad that
	// holds another version is loaded when it is opened. Empty loads none.
	Tables string
	// IdleText is shown when the device is closed ("idle_text", 32 characters).
	IdleText string
}

var settingNames = []string{"acquirer", "baud", "customer_wait", "data_method", "data_slot", "force_online", "idle_text", "pin_slot", "swipe_pin", "tables"}

// ParseSettings checks the parameters of a configuration.
func ParseSettings(params map[string]string) (Settings, error) {
	s := Settings{Baud: 19200, DataMethod: "50", Acquirer: "00", CustomerWait: time.Minute, ForceOnline: true, SwipePIN: true}
	for name, v := range params {
		var err error
		switch name {
		case "baud":
			s.Baud, err = intSetting(v, 1200, 921600)
		case "data_slot":
			s.DataSlot, err = intSetting(v, 0, 99)
		case "pin_slot":
			s.PINSlot, err = intSetting(v, 0, 99)
		case "customer_wait":
			var n int
			n, err = intSetting(v, 1, 255)
			s.CustomerWait = time.Duration(n) * time.Second
		case "data_method":
			if s.DataMethod = v; v != "30" && v != "50" && v != "51" {
				err = fmt.Errorf("it is 50 (TDES DUKPT, ECB), 51 (CBC) or 30 (PIN variant)")
			}
		case "acquirer":
			if _, ok := number([]byte(v)); !ok || len(v) != 2 {
				err = fmt.Errorf("it has two digits")
			}
			s.Acquirer = v
		case "force_online":
			s.ForceOnline, err = strconv.ParseBool(v)
		case "swipe_pin":
			s.SwipePIN, err = strconv.ParseBool(v)
		case "tables":
			if s.Tables = v; v == "" {
				err = fmt.Errorf("it is the path of a file")
			}
		case "idle_text":
			if len(v) > 32 || strings.IndexFunc(v, func(r rune) bool { return r < 0x20 || r > 0x7E }) >= 0 {
				err = fmt.Errorf("it has at most 32 printable characters")
			}
			s.IdleText = v
		default:
			err = fmt.Errorf("no such parameter; there are %s", strings.Join(settingNames, ", "))
		}
		if err != nil {
			return Settings{}, fmt.Errorf("abecs parameter %q: %w", name, err)
		}
	}
	return s, nil
}

func intSetting(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("it is a number from %d to %d", low, high)
	}
	return n, nil
}

// vendors are USB vendors under which ABECS pads were seen. They only raise a
// port's priority: makers of many things use them.
var vendors = []uint16{0x0B00, 0x11CA, 0x1234, 0x1753, 0x2FB8}

func known(vid uint16) bool { return slices.Contains(vendors, vid) }
