package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the API. Labels have few values: routes, statuses and codes of the
// catalogue.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	problems *prometheus.CounterVec
	streams  prometheus.Gauge
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tillbridge_api_requests_total", Help: "Requests by route and status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tillbridge_api_request_seconds", Help: "Time until the answer was written; long polls and streams count whole.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}}, []string{"route"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tillbridge_api_problems_total", Help: "Answers that were problem documents, by code."}, []string{"code"}),
		streams:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "tillbridge_api_event_streams", Help: "Open event streams."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.problems, m.streams} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) problem(code string) { m.problems.WithLabelValues(code).Inc() }
