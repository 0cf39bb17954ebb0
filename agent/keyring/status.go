package keyring

import (
	"context"
	"fmt"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/seal"
)

// Levels of a key set.
const (
	LevelOK        = "ok"
	LevelWarning   = "warning"   // 80 % of the keys are used
	LevelCritical  = "critical"  // 95 %
	LevelExhausted = "exhausted" // all
	LevelDamaged   = "damaged"   // a slot, or the whole journal, is unreadable
	LevelZeroized  = "zeroized"
)

// SetStatus is one key set.
type SetStatus struct {
	Device   string      `json:"device"`
	KeySet   string      `json:"key_set"`
	Scheme   p2pe.Scheme `json:"scheme"`
	KSN      p2pe.KSN    `json:"ksn"` // next that is not reserved, or the last
	KCV      CheckValues `json:"kcv"`
	LoadedAt time.Time   `json:"loaded_at"`
	LoadedBy []string    `json:"loaded_by"`
	Left     uint64      `json:"left"`
	Total    uint64      `json:"total"`
	Level    string      `json:"level"`
	Text     string      `json:"text,omitempty"` // what to do
}

// Status is the state of the keys of a machine.
type Status struct {
	Schema string `json:"schema"` // keys.status/1
	// Sealer is the kind in use, "" before the first import.
	Sealer   string `json:"sealer"`
	Insecure string `json:"insecure,omitempty"` // why, when it is
	// Anchor tells an old copy of the disk; without one no key is loaded.
	Anchor  string      `json:"anchor"`
	Refused string      `json:"refused,omitempty"` // why software DUKPT does not start
	Live    bool        `json:"live"`
	Sets    []SetStatus `json:"sets"`
}

// level judges how many keys are left.
func level(left, total uint64) (string, string) {
	used := total - left
	switch {
	case left == 0:
		return LevelExhausted, "no key is left: load a new initial key (tillbridge keys zeroize, then keys import)"
	case used*100 >= total*95:
		return LevelCritical, fmt.Sprintf("%d keys are left: load a new initial key now", left)
	case used*100 >= total*80:
		return LevelWarning, fmt.Sprintf("%d keys are left: order a new initial key", left)
	}
	return LevelOK, ""
}

// Status reads the state. It changes nothing and needs no root key, so that it
// works beside a running agent.
func (k *Keyring) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := Status{Schema: "keys.status/1", Sets: []SetStatus{}}
	if kind, insecure, ok := seal.SealerOf(k.dir); ok {
		st.Sealer, st.Insecure = kind, insecure
	}
	if a := k.anchor(); a != nil {
		st.Anchor = a.Name()
	} else if k.anchored(context.Background()) {
		st.Anchor = (*seal.TPMAnchor)(nil).Name() // made with the first import
	} else {
		st.Refused = seal.ErrNoAnchor.Error()
	}
	for _, s := range k.sets() {
		if !s.loaded {
			continue
		}
		out := SetStatus{Device: s.device, KeySet: keySet(s.device, s.scheme), Scheme: s.scheme, KSN: s.initial, KCV: s.kcv, LoadedAt: s.at, LoadedBy: s.by}
		switch info, err := seal.ReadJournal(k.journal(s.device)); {
		case s.zeroizing:
			out.Level = LevelZeroized
			if s.last != "" {
				out.KSN = s.last
			}
		case err != nil:
			out.Level, out.Text = LevelDamaged, err.Error()
		case info.Zeroised:
			out.Level, out.KSN = LevelZeroized, info.KSN
		default:
			st.Live = true
			out.KSN, out.Left, out.Total = info.KSN, info.Remaining, info.Total
			out.Level, out.Text = level(info.Remaining, info.Total)
			if info.Damaged && out.Level == LevelOK {
				out.Level, out.Text = LevelDamaged, "one of two slots is unreadable: the other is in use; check the disk"
			}
		}
		st.Sets = append(st.Sets, out)
	}
	return st
}
