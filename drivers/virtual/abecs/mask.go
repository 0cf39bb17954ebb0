package abecs

import (
	"strconv"
	"strings"
)

// maskWidths reads PANMASK "eedd".
func maskWidths(l params, left, right int) (int, int) {
	if v := l.text(inPANMask, 4, ""); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			return n / 100, n % 100
		}
	}
	return left, right
}

func masked(digits string, left, right int) string {
	if left+right >= len(digits) {
		return digits
	}
	return digits[:left] + strings.Repeat("*", len(digits)-left-right) + digits[len(digits)-right:]
}

// addMaskedTracks adds the truncated tracks: number masked, discretionary data
// left out.
func addMaskedTracks(a *answer, in *inserted, left, right int) {
	if in.track1 != "" {
		if pan, rest, ok := strings.Cut(strings.TrimPrefix(in.track1, "B"), "^"); ok {
			name, tail, _ := strings.Cut(rest, "^")
			a.addText(outTrack1M, "B"+masked(pan, left, right)+"^"+name+"^"+tail[:min(7, len(tail))])
		}
	}
	if in.track2 != "" {
		if pan, rest, ok := strings.Cut(in.track2, "="); ok {
			a.addText(outTrack2M, masked(pan, left, right)+"="+rest[:min(7, len(rest))])
		}
	}
}
