package neo2

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tillbridge/p2pe"
)

// Settings are the parameters of a reader in the configuration.
type Settings struct {
	// Baud of a serial line ("baud"); 0, the default, tries 115200, 57600,
	// 38400, 19200 and 9600.
	Baud int
	// Reports is set where the reader speaks HID reports on a port that is not
	// known to be HID ("link" = "hid"; "serial" is the other; default: by the
	// kind of the port).
	Reports *bool
	// CustomerWait is how long the reader waits for a card ("customer_wait",
	// seconds up to 255; default 60).
	CustomerWait time.Duration
	// ForceOnline asks for an online authorisation of every chip payment
	// ("force_online", default true).
	ForceOnline bool
	// KeyVariant is the working key of the reader's DUKPT ("key_variant": "data",
	// the default, or "pin").
	KeyVariant string
}

var settingNames = []string{"baud", "customer_wait", "force_online", "key_variant", "link"}

// ParseSettings checks the parameters of a configuration.
func ParseSettings(params map[string]string) (Settings, error) {
	s := Settings{CustomerWait: time.Minute, ForceOnline: true, KeyVariant: p2pe.VariantDataRequest}
	for name, v := range params {
		var err error
		switch name {
		case "baud":
			if s.Baud, err = strconv.Atoi(v); err != nil || s.Baud < 1200 || s.Baud > 921600 {
				err = fmt.Errorf("it is a number from 1200 to 921600")
			}
		case "customer_wait":
			n, bad := strconv.Atoi(v)
			if bad != nil || n < 1 || n > 255 {
				err = fmt.Errorf("it is a number of seconds from 1 to 255")
			}
			s.CustomerWait = time.Duration(n) * time.Second
		case "force_online":
			s.ForceOnline, err = strconv.ParseBool(v)
		case "key_variant":
			switch v {
			case "data":
			case "pin":
				s.KeyVariant = p2pe.VariantPIN
			default:
				err = fmt.Errorf("it is data or pin")
			}
		case "link":
			if v != "hid" && v != "serial" {
				err = fmt.Errorf("it is hid or serial")
			}
			hid := v == "hid"
			s.Reports = &hid
		default:
			err = fmt.Errorf("no such parameter; there are %s", strings.Join(settingNames, ", "))
		}
		if err != nil {
			return Settings{}, fmt.Errorf("neo2 parameter %q: %w", name, err)
		}
	}
	return s, nil
}
