package crm

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Pace is how a [Forwarder] waits. The zero value has the defaults.
type Pace struct {
	First      time.Duration // pause after the first failure; 0 means 1 s
	Max        time.Duration // longest pause; 0 means 5 min
	Multiplier float64       // growth per failure; 0 means 2
	Jitter     float64       // share by which a pause varies; 0 means 0.5, below 0 means none
}

func (p Pace) withDefaults() Pace {
	if p.First <= 0 {
		p.First = time.Second
	}
	if p.Max <= 0 {
		p.Max = 5 * time.Minute
	}
	if p.Multiplier < 1 {
		p.Multiplier = 2
	}
	if p.Jitter == 0 {
		p.Jitter = 0.5
	}
	if p.Jitter < 0 {
		p.Jitter = 0
	}
	return p
}

// after returns the pause after n failures (n from 1).
func (p Pace) after(n int) time.Duration {
	b := &backoff.ExponentialBackOff{
		InitialInterval:     p.First,
		RandomizationFactor: p.Jitter,
		Multiplier:          p.Multiplier,
		MaxInterval:         p.Max,
	}
	b.Reset()
	d := b.NextBackOff()
	// Sixty doublings pass any maximum; a record that is years old must not
	// cost a long loop.
	for i := 1; i < n && i < 60; i++ {
		d = b.NextBackOff()
	}
	return min(d, p.Max)
}
