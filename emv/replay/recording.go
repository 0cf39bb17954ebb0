package replay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"tillbridge/emv/tlv"
)

// ErrRecording says that a file is not a recording. It names no content.
var ErrRecording = errors.New("replay: not a recording of card commands")

// Exchange is one command and the card's answer. A Command without bytes
// stands for any command.
type Exchange struct{ Command, Answer []byte }

// Recording is what passed between a terminal and a card.
type Recording struct {
	Name      string
	Interface string // "contact" or "contactless"
	// TPDU: the exchanges are T=0 TPDUs and the card's procedure bytes.
	TPDU      bool
	Exchanges []Exchange
	// Terminal are data objects of the terminal that the file names, TLV.
	Terminal []byte
	// Numbers are unpredictable numbers in their order, four bytes each.
	Numbers []byte
	// Date is YYMMDD and Time HHMMSS as BCD, nil when not given.
	Date, Time []byte
	// ConfigFiles name terminal configurations beside the file.
	ConfigFiles []string
}

type wireRecording struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	Level     string `json:"level"`
	Exchanges []struct {
		Command string `json:"capdu"`
		Answer  string `json:"rapdu"`
	} `json:"exchanges"`
	Numbers string   `json:"unpredictable_numbers"`
	Date    string   `json:"date"`
	Time    string   `json:"time"`
	Request string   `json:"transaction_request_tlv"`
	Files   []string `json:"config_files"`
}

// Parse reads a file of recordings: an object with "transcripts", a list of
// them, or one. Unknown descriptive fields are left alone; what is there of
// the form must be right. The error matches [ErrRecording].
func Parse(b []byte) ([]Recording, error) {
	var wire []wireRecording
	trimmed := bytes.TrimSpace(b)
	switch {
	case len(trimmed) > 0 && trimmed[0] == '[':
		if err := json.Unmarshal(b, &wire); err != nil {
			return nil, fmt.Errorf("%w: no list of transcripts in JSON", ErrRecording)
		}
	default:
		var file struct {
			Transcripts *[]wireRecording `json:"transcripts"`
			wireRecording
		}
		if err := json.Unmarshal(b, &file); err != nil {
			return nil, fmt.Errorf("%w: no transcript in JSON", ErrRecording)
		}
		if file.Transcripts != nil {
			wire = *file.Transcripts
		} else if len(file.Exchanges) > 0 {
			wire = []wireRecording{file.wireRecording}
		}
	}
	if len(wire) == 0 {
		return nil, fmt.Errorf("%w: it holds no transcript", ErrRecording)
	}
	out := make([]Recording, 0, len(wire))
	for i, w := range wire {
		r, err := w.recording()
		if err != nil {
			return nil, fmt.Errorf("transcript %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (w wireRecording) recording() (Recording, error) {
	r := Recording{Name: w.Name, Interface: w.Interface, ConfigFiles: w.Files}
	switch w.Level {
	case "TPDU":
		r.TPDU = true
	case "APDU", "":
	default:
		return r, fmt.Errorf("%w: its level is neither APDU nor TPDU", ErrRecording)
	}
	if w.Interface != "" && w.Interface != "contact" && w.Interface != "contactless" {
		return r, fmt.Errorf("%w: its interface is neither contact nor contactless", ErrRecording)
	}
	for i, e := range w.Exchanges {
		c, err1 := hex.DecodeString(e.Command)
		a, err2 := hex.DecodeString(e.Answer)
		if err1 != nil || err2 != nil {
			return r, fmt.Errorf("%w: exchange %d is not hex", ErrRecording, i+1)
		}
		r.Exchanges = append(r.Exchanges, Exchange{c, a})
	}
	for _, f := range []struct {
		text string
		to   *[]byte
		size int
	}{{w.Request, &r.Terminal, 0}, {w.Numbers, &r.Numbers, 4}, {w.Date, &r.Date, 3}, {w.Time, &r.Time, 3}} {
		v, err := hex.DecodeString(f.text)
		if err != nil || f.size > 0 && len(v)%f.size != 0 || (f.size == 3 && len(v) > 3) {
			return r, fmt.Errorf("%w: a field about the terminal is malformed", ErrRecording)
		}
		if len(v) > 0 {
			*f.to = v
		}
	}
	it := tlv.NewIterator(r.Terminal, &tlv.Options{Mode: tlv.ZeroPadding}, false)
	for it.Next() {
	}
	if it.Err() != nil {
		return r, fmt.Errorf("%w: the terminal's data are not TLV", ErrRecording)
	}
	return r, nil
}

// commands joins what the levels below the APDU split: T=0 headers with their
// data. Answers are without procedure bytes.
func (r Recording) commands() []Exchange {
	if !r.TPDU {
		return r.Exchanges
	}
	var out []Exchange
	list := r.Exchanges
	for i := 0; i < len(list); i++ {
		e := list[i]
		if len(e.Command) != 5 {
			out = append(out, e)
			continue
		}
		ins, want := e.Command[1], int(e.Command[4])
		joined := Exchange{bytes.Clone(e.Command), awake(e.Answer)}
		for want > 0 && i+1 < len(list) && len(joined.Answer) == 1 && (joined.Answer[0] == ins || joined.Answer[0] == ^ins) && len(list[i+1].Command) <= want {
			i++
			joined.Command = append(joined.Command, list[i].Command...)
			want -= len(list[i].Command)
			joined.Answer = awake(list[i].Answer)
		}
		if len(joined.Answer) > 2 && joined.Answer[0] == ins {
			joined.Answer = joined.Answer[1:]
		}
		out = append(out, joined)
	}
	return out
}

// awake leaves out the NULL bytes by which a T=0 card asks for time.
func awake(answer []byte) []byte { return bytes.TrimLeft(answer, "\x60") }
