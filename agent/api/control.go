package api

import "time"

// Types of the control channel, which the command line uses.

// Status is one screen: `tillbridge status`.
type Status struct {
	Schema    string        `json:"schema"` // "status/1"
	Version   string        `json:"version"`
	PID       int           `json:"pid"`
	StartedAt time.Time     `json:"started_at"`
	StartMS   int64         `json:"start_ms,omitempty"`  // from exec to ready
	RSSMB     float64       `json:"rss_mb,omitempty"`    // resident memory, MiB
	Listen    string        `json:"listen,omitempty"`    // of the till API
	Online    bool          `json:"online"`              // the acquirer answers
	Acquirer  *Leg          `json:"acquirer,omitempty"`  // agent to host
	CRM       *Leg          `json:"crm,omitempty"`       // agent to CRM
	Devices   []Device      `json:"devices"`             // agent to pads
	Queue     *QueueSummary `json:"queue,omitempty"`     // what waits for the CRM
	Payments  *Today        `json:"payments,omitempty"`  // since midnight
	InDoubt   []string      `json:"in_doubt"`            // ids
	Alerts    []Alert       `json:"alerts"`              // most severe first
	LastPOS   *time.Time    `json:"last_pos,omitempty"`  // last request of a till
	Last      *Payment      `json:"last,omitempty"`      // newest payment
	DataDir   string        `json:"data_dir,omitempty"`  // where the store is
	Config    string        `json:"config,omitempty"`    // file in use
	Simulated []string      `json:"simulated,omitempty"` // counterparts named so by the configuration
}

// Leg is one connection.
type Leg struct {
	Name     string     `json:"name"`
	State    string     `json:"state"` // online, suspect, paused, down, unknown
	Code     string     `json:"code,omitempty"`
	Detail   string     `json:"detail,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	NextTry  *time.Time `json:"next_try,omitempty"`
	LastGood *time.Time `json:"last_good,omitempty"`
	Waiting  int64      `json:"waiting,omitempty"`
}

// Device is one pad.
type Device struct {
	ID         string     `json:"id"`
	RegisterID string     `json:"register_id,omitempty"`
	Driver     string     `json:"driver"`
	Model      string     `json:"model,omitempty"`
	Serial     string     `json:"serial,omitempty"`
	Firmware   string     `json:"firmware,omitempty"`
	Port       string     `json:"port,omitempty"`
	State      string     `json:"state"` // idle, busy, opening, not answering, absent
	Code       string     `json:"code,omitempty"`
	Detail     string     `json:"detail,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Replugs    int        `json:"replugs"`
	PaymentID  string     `json:"payment_id,omitempty"` // that holds it
	// Encryption says what makes ciphertext of card data: "device", "terminal"
	// (no card data come here), "software" (this program, on this PC), or "none":
	// no payments.
	Encryption string `json:"encryption,omitempty"`
}

// Today counts payments by status.
type Today struct {
	Total     int64 `json:"total"`
	Succeeded int64 `json:"succeeded"`
	Declined  int64 `json:"declined"`
	Canceled  int64 `json:"canceled"`
	Failed    int64 `json:"failed"`
	Reversed  int64 `json:"reversed"`
	InDoubt   int64 `json:"in_doubt"`
}

// Alert is what a person should look at.
type Alert struct {
	Code     string `json:"code"`
	Severity string `json:"severity"` // warn, critical
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
}

// QueueSummary is `tillbridge queue summary`.
type QueueSummary struct {
	Schema   string           `json:"schema"` // "queue.summary/1"
	Online   bool             `json:"online"`
	Count    int64            `json:"count"`            // waiting
	Totals   map[string]int64 `json:"totals"`           // minor units by currency, where known
	OldestAt *time.Time       `json:"oldest_at"`        // null: nothing waits
	NextAt   *time.Time       `json:"next_at"`          // next attempt
	Held     int64            `json:"held"`             // by a person
	Dead     int64            `json:"dead"`             // put aside
	Sink     string           `json:"sink,omitempty"`   // where it goes
	State    string           `json:"state,omitempty"`  // of the sink
	Reason   string           `json:"reason,omitempty"` // why it does not go
}

// QueueItem is one message on its way out.
type QueueItem struct {
	ID        uint64     `json:"id"`
	State     string     `json:"state"` // waiting, leased, retry, dead
	Type      string     `json:"type,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	OrderKey  string     `json:"order_key,omitempty"`
	Attempts  int        `json:"attempts"`
	Recorded  time.Time  `json:"recorded"`
	NextAt    *time.Time `json:"next_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	BodyBytes int        `json:"body_bytes,omitempty"`
	Event     any        `json:"event,omitempty"` // of show
}

// Timeline is `tillbridge tx timeline`.
type Timeline struct {
	Schema    string         `json:"schema"` // "tx.timeline/1"
	PaymentID string         `json:"payment_id"`
	Steps     []TimelineStep `json:"steps"`
}

// TimelineStep is one line of it; OffsetMS counts from the first.
type TimelineStep struct {
	At       time.Time `json:"at"`
	OffsetMS int64     `json:"offset_ms"`
	Where    string    `json:"where"` // pos, store, device, card, host, state
	Status   string    `json:"status,omitempty"`
	Stage    string    `json:"stage,omitempty"`
	Note     string    `json:"note,omitempty"`
	Subject  string    `json:"subject,omitempty"` // the operation, when not the payment
}

// Trace is the state of a protocol trace.
type Trace struct {
	Schema string     `json:"schema"` // "trace/1"
	On     bool       `json:"on"`
	Device string     `json:"device,omitempty"` // empty: all
	Until  *time.Time `json:"until,omitempty"`
	File   string     `json:"file,omitempty"`
	Lines  []string   `json:"lines,omitempty"` // of show
}

// TraceRequest starts or stops a trace.
type TraceRequest struct {
	Action  string `json:"action"`            // start, stop
	Seconds int    `json:"seconds,omitempty"` // of start; it ends by itself
	Device  string `json:"device,omitempty"`
}

// ResumeRequest is empty: POST /control/crm/resume ends a pause of the sink.
type ResumeRequest struct{}

// DeviceInfo is `tillbridge devices info`.
type DeviceInfo struct {
	Schema string `json:"schema"` // "devices.info/1"
	Device Device `json:"device"`
	// Kernel and Keys are what the device says of itself.
	Kernel string            `json:"kernel,omitempty"`
	Keys   map[string]string `json:"keys,omitempty"`
	// Encryption says in words how card data are encrypted.
	Encryption string `json:"encryption,omitempty"`
	// NotReady is why they cannot be, with the code of the error.
	NotReady *Alert     `json:"not_ready,omitempty"`
	Ports    []PortInfo `json:"ports"` // every port that was seen
	// BusFaults says why ports of some kind could not be looked for.
	BusFaults []string `json:"bus_faults,omitempty"`
}

// PortInfo is a port and why it was taken or not.
type PortInfo struct {
	Kind     string   `json:"kind"`
	Path     string   `json:"path"`
	Location string   `json:"location,omitempty"`
	VID      string   `json:"vid,omitempty"` // four hex digits
	PID      string   `json:"pid,omitempty"`
	Serial   string   `json:"serial,omitempty"`
	Product  string   `json:"product,omitempty"`
	Device   string   `json:"device,omitempty"` // that took it
	Why      []string `json:"why,omitempty"`    // for each device that did not
}

// DeviceTest is `tillbridge devices test`.
type DeviceTest struct {
	Schema string  `json:"schema"` // "devices.test/1"
	ID     string  `json:"id"`
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}
