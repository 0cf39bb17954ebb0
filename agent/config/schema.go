package config

import "reflect"

// Key describes one key of the file.
type Key struct {
	Key     string `json:"key"` // "api.listen", "device[].ports"
	Type    string `json:"type"`
	Default any    `json:"default"`
	Text    string `json:"text"`
}

// meaning holds one sentence for each key; a test keeps it complete.
var meaning = map[string]string{
	"agent.data":             "data directory: store, sealed keys, traces",
	"agent.log":              "least level written: debug, info, warn, error",
	"agent.control":          "control channel of the command line: socket path, or pipe name on Windows",
	"agent.merchant":         "the merchant's name or id in events",
	"agent.store":            "the store's name or id in events",
	"api.listen":             "loopback address of the till API",
	"api.origins":            "web origins that may call the API, such as https://pos.example",
	"api.hosts":              "Host headers accepted beside the loopback names",
	"register[].id":          "name of the till lane",
	"register[].device":      "name of the [[device]] that the lane uses; each device belongs to one lane",
	"register[].key":         `the lane's API key by reference: "file:PATH" or "env:NAME"`,
	"register[].currency":    "the lane's currency, ISO 4217; others are refused",
	"register[].terminal_id": "how the acquirer knows this register; each needs its own when there are several",
	"register[].manager":     "this key may resolve payments in doubt",
	"device[].name":          "name of the device",
	"device[].protocol":      "abecs, zvt, neo2 or ccid",
	"device[].ports":         `serial paths, globs or by-id links, host:port, or "usb:VID:PID"; these ports may be probed`,
	"device[].serial":        "the device's own serial number; another device on its port is refused",
	"device[].params":        "settings of the protocol, as text (README, Devices)",
	"acquirer.kind":          "iso8583, or nothing when every device authorises by itself",
	"acquirer.addr":          "host:port of the acquirer",
	"acquirer.ca":            "PEM file of the only certificate authorities trusted for it",
	"acquirer.server_name":   "name expected in its certificate, when it is not the host of addr",
	"acquirer.merchant_id":   "card acceptor id, 1 to 15 characters",
	"acquirer.terminal_id":   "terminal id, 1 to 8 characters",
	"acquirer.dialect":       "message specification: ascii87 or bcd87",
	"acquirer.timeout":       "how long an answer is waited for, 1s to 2m",
	"acquirer.inquiry":       "the host answers inquiries; otherwise an unanswered payment is reversed",
	"crm.kind":               "webhook, or nothing for no CRM",
	"crm.url":                "where events go: https, or http on loopback",
	"crm.secret":             `signing secret by reference: "file:PATH" or "env:NAME"`,
	"crm.ca":                 "PEM file of the only certificate authorities trusted for it",
	"crm.timeout":            "time for one delivery, 1s to 2m",
	"keys.sealer":            "auto, tpm, systemd-creds, dpapi or file; file protects against nothing that reads the disk",
	"keys.tpm":               "device of the TPM",

	"kernel.country":                 `the shop's country, ISO 3166 number (9F1A); [kernel] is for readers without a kernel of their own`,
	"kernel.terminal_type":           "9F35: 21, 22, 24 or 25",
	"kernel.capabilities":            "9F33: chip with contacts; byte 2 may have signature (20) and no verification (08), byte 3 DDA (40) and CDA (08)",
	"kernel.additional_capabilities": "9F40, five bytes in hex",
	"kernel.merchant_category":       "9F15, four digits",
	"kernel.ca_keys":                 "JSON file of certification authority keys and revoked issuer certificates (README, Readers without a kernel)",
	"kernel.environment":             "live or test: keys of the other are refused",

	"kernel.application[].aid":         "application identifier in hex, as the acquirer allows it",
	"kernel.application[].exact":       "refuse longer names of the card",
	"kernel.application[].version":     "application version number of the terminal (9F09), two bytes in hex",
	"kernel.application[].tac_default": "terminal action code, five bytes in hex",
	"kernel.application[].tac_denial":  "terminal action code, five bytes in hex",
	"kernel.application[].tac_online":  "terminal action code, five bytes in hex; what exceeds the floor limit goes online in any case",
	"kernel.application[].floor_limit": "9F1B; 0, because the issuer is asked for every payment",
	"kernel.application[].ddol":        "data object list for dynamic authentication when the card has none, in hex",
	"kernel.application[].tdol":        "data object list for the TC hash when the card has none, in hex",

	"encryption.kind":       `how card data of readers that do not encrypt become ciphertext: dukpt (the key of "keys import") or jwe (the acquirer's public key)`,
	"encryption.key":        "dukpt: serial number of the imported key, 16 hex digits; another key is then not used",
	"encryption.public_key": "jwe: PEM file with the acquirer's public key",
	"encryption.thumbprint": "jwe: SHA-256 of that key in hex, which the acquirer gave another way than the file",
	"encryption.key_id":     "jwe: name by which the acquirer knows the key",
}

// Schema lists every key in the order of the file, with its default.
func Schema() []Key {
	var c Config
	c.defaults()
	var out []Key
	walk("", reflect.ValueOf(c), &out)
	return out
}

func walk(prefix string, v reflect.Value, out *[]Key) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := prefix + f.Tag.Get("toml")
		value := v.Field(i)
		switch {
		case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Duration]():
			walk(name+".", value, out)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			walk(name+"[].", reflect.New(f.Type.Elem()).Elem(), out)
		default:
			*out = append(*out, Key{Key: name, Type: typeName(f.Type), Default: value.Interface(), Text: meaning[name]})
		}
	}
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "duration"
	case t == reflect.TypeFor[Secret]():
		return "secret"
	case t.Kind() == reflect.Slice:
		return "list of text"
	case t.Kind() == reflect.Map:
		return "table of text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "number"
	}
	return "text"
}
