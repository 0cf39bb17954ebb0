package agent

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/kardianos/service"
)

// ServiceName is the name under which the service manager knows the program.
const ServiceName = "tillbridge"

// Service runs fn under the service manager, or in a terminal: fn's context
// ends when the manager stops the service or ctx ends, and Service returns
// when fn has. The error is fn's, or the manager's.
//
// When fn ends by itself the program has to end too, so that the manager
// restarts it. On Windows the manager's loop cannot be left from inside, and
// the process exits with code 1.
func Service(ctx context.Context, fn func(context.Context) error) error {
	p := &program{parent: ctx, fn: fn, done: make(chan struct{})}
	s, err := service.New(p, &service.Config{
		Name:        ServiceName,
		DisplayName: "tillbridge",
		Description: "Drives the store's PIN pads and keeps its payments.",
		Option: service.KeyValue{"RunWait": func() {
			select {
			case <-ctx.Done():
			case <-p.done:
			}
		}},
	})
	if err != nil {
		return err
	}
	err = s.Run()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.err, err)
}

// program is what the service manager starts and stops.
type program struct {
	parent context.Context
	fn     func(context.Context) error

	cancel context.CancelFunc
	done   chan struct{} // closed when fn has returned

	mu  sync.Mutex
	err error
}

// Start returns at once, as the service manager wants it.
func (p *program) Start(service.Service) error {
	ctx, cancel := context.WithCancel(p.parent)
	p.cancel = cancel
	go func() { // Stop waits for it
		defer close(p.done)
		err := p.fn(ctx)
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		if ctx.Err() == nil && service.Platform() == "windows-service" && !service.Interactive() {
			os.Exit(1)
		}
	}()
	return nil
}

// Stop ends the agent and waits for it.
func (p *program) Stop(service.Service) error {
	p.cancel()
	<-p.done
	return nil
}
