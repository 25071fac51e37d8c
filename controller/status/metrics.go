// SPDX-License-Identifier: Apache-2.0

package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a Writer does. nil counts nothing.
type Metrics struct {
	passes    *prometheus.CounterVec
	seconds   prometheus.Histogram
	services  *prometheus.GaugeVec
	addresses *prometheus.GaugeVec
	refusals  *prometheus.CounterVec
}

// NewMetrics registers metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_controller_passes_total", Help: "Looks at the whole cluster, by result.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_controller_pass_seconds", Help: "Time of a look at the cluster, with all writes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_services", Help: "Services of our class, by whether they have the addresses that they ask for.",
		}, []string{"allocated"}),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_pool_addresses", Help: "Addresses of a pool, assigned and available ones.",
		}, []string{"pool", "family", "state"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_controller_refused_writes_total", Help: "Writes that the API server refused because the object had changed.",
		}, []string{"object"}),
	}
	r.MustRegister(m.passes, m.seconds, m.services, m.addresses, m.refusals)
	return m
}

// refused counts a write that was refused.
func (m *Metrics) refused(object string) {
	if m != nil {
		m.refusals.WithLabelValues(object).Inc()
	}
}

// passed counts a pass.
func (m *Metrics) passed(w *Writer, took time.Duration, err error) {
	if m == nil {
		return
	}
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.passes.WithLabelValues(result).Inc()
	m.seconds.Observe(took.Seconds())
	if w.counted == w.from {
		return
	}
	w.counted = w.from
	complete := 0
	for _, a := range w.result.Assignments {
		if a.Complete {
			complete++
		}
	}
	m.services.WithLabelValues("true").Set(float64(complete))
	m.services.WithLabelValues("false").Set(float64(len(w.result.Assignments) - complete))
	m.addresses.Reset()
	for pool, c := range w.result.Counts {
		m.addresses.WithLabelValues(pool, "IPv4", "assigned").Set(float64(c.AssignedIPv4))
		m.addresses.WithLabelValues(pool, "IPv4", "available").Set(float64(c.AvailableIPv4))
		m.addresses.WithLabelValues(pool, "IPv6", "assigned").Set(float64(c.AssignedIPv6))
		m.addresses.WithLabelValues(pool, "IPv6", "available").Set(float64(c.AvailableIPv6))
	}
}
