// Package agent puts the parts together: configuration, store, devices,
// engine, acquirer, CRM and API become one program with one lifetime.
//
// Start with [Run]: it returns when its context ends and everything has
// stopped, in the order API, forwarder, engine, devices, acquirer, store.
//
// It contains no rule about payments; those are in agent/engine and
// agent/payment. It does not know its simulators.
package agent
