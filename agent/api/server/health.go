package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tillbridge/agent/api"
)

// healthz says that the process answers, nothing more.
func (s *Server) healthz(c *call) error {
	return c.reply(http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether payments can be taken: 200 or 503, with each check.
func (s *Server) readyz(c *call) error {
	ready := api.Readiness{Ready: true, Checks: []api.Check{}}
	if s.o.Ready != nil {
		ready = s.o.Ready(c.r.Context())
	}
	if !ready.Ready {
		return c.reply(http.StatusServiceUnavailable, ready)
	}
	return c.reply(http.StatusOK, ready)
}

func (s *Server) version(c *call) error { return c.reply(http.StatusOK, s.o.Version) }

func (s *Server) showMetrics(c *call) error {
	promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
	return nil
}
