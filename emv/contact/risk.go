package contact

// RiskConfig are the terminal's settings for terminal risk management (Book 3
// section 10.6, Book 4 section 6.5). Amounts are minor units of the
// transaction currency.
type RiskConfig struct {
	// FloorLimit is 9F1B. An amount equal to it exceeds it too.
	FloorLimit int64
	// Threshold for biased random selection; must be below FloorLimit to count.
	Threshold int64
	// TargetPercent and MaxTargetPercent are 0 to 99 (Book 3 section 10.6.2).
	TargetPercent, MaxTargetPercent int
}

// RiskData is what one transaction brings.
type RiskData struct {
	Amount int64
	// LogTotal is what the terminal already approved offline for the same card,
	// to stop split sales.
	LogTotal int64
	// Random is uniform in 1 to 99, from a cryptographic source.
	Random int
	// OnException: the PAN is on the terminal's exception file.
	OnException bool
	// ForceOnline: the merchant wants the transaction to go online.
	ForceOnline bool
	// Lower and Upper are 9F14 and 9F23 of the card, or -1 when absent.
	Lower, Upper int
	// ATC and LastOnlineATC are 9F36 and 9F13 by GET DATA, or -1 when the card
	// did not give them.
	ATC, LastOnlineATC int
}

// Risk does terminal risk management and returns the bits for the TVR.
func Risk(d RiskData, c RiskConfig) (bits []Bit) {
	if d.OnException {
		bits = append(bits, OnExceptionFile)
	}
	if d.ForceOnline {
		bits = append(bits, ForcedOnline)
	}
	// 10.6.1 and 10.6.2: a transaction above the floor limit is not also
	// selected randomly.
	if d.Amount+d.LogTotal >= c.FloorLimit {
		bits = append(bits, FloorLimitExceeded)
	} else if selected(d, c) {
		bits = append(bits, RandomlySelected)
	}
	return append(bits, velocity(d)...)
}

// selected is Book 3 section 10.6.2: plain selection below the threshold,
// biased towards MaxTargetPercent between threshold and floor limit.
func selected(d RiskData, c RiskConfig) bool {
	percent := c.TargetPercent
	if d.Amount >= c.Threshold && c.FloorLimit > c.Threshold {
		percent = c.TargetPercent + int((int64(c.MaxTargetPercent-c.TargetPercent)*(d.Amount-c.Threshold))/(c.FloorLimit-c.Threshold))
	}
	return d.Random <= percent
}

// velocity is Book 3 section 10.6.3.
func velocity(d RiskData) (bits []Bit) {
	if d.Lower < 0 || d.Upper < 0 {
		return nil // the card does not ask for the check
	}
	if d.ATC < 0 || d.LastOnlineATC < 0 || d.ATC <= d.LastOnlineATC {
		// No counters, or counters that cannot be: both limits count as exceeded.
		bits = append(bits, LowerLimitExceeded, UpperLimitExceeded)
	} else {
		offline := d.ATC - d.LastOnlineATC
		if offline > d.Lower {
			bits = append(bits, LowerLimitExceeded)
		}
		if offline > d.Upper {
			bits = append(bits, UpperLimitExceeded)
		}
	}
	if d.LastOnlineATC == 0 {
		bits = append(bits, NewCard)
	}
	return bits
}
