// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead/fairlead/lb"
)

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_"+name, help, labels, nil)
}

// What the agent tells Prometheus.
var (
	packetsDesc = description("packets_total",
		"Packets by what happened to them and why; each counts once on each node that it crosses.", "verdict", "reason")
	servicePacketsDesc = description("service_packets_total",
		"Packets that this node handled for a service port.", "service", "vip", "port", "protocol")
	serviceBytesDesc = description("service_bytes_total",
		"Bytes of IP packets that this node handled for a service port.", "service", "vip", "port", "protocol")
	backendsDesc = description("service_backends",
		"Backends of a service port by state.", "service", "vip", "port", "protocol", "state")
	adoptedDesc = description("service_adopted_connections",
		"Connections that kube-proxy still has of a service port that was taken over from it; only while there may be some.",
		"service", "vip", "port", "protocol")
	xdpModeDesc      = description("xdp_mode", "1 for the mode that the programs are attached in.", "interface", "mode")
	socketFramesDesc = description("socket_frames_total",
		"Frames of a queue in the userspace datapath: received, sent, dropped before they were received, not sent.",
		"interface", "queue", "result")
	configValidDesc = description("config_valid", "1 if the configuration file as it is now is the running one, 0 if it is refused.")
	reloadsDesc     = description("config_reloads_total", "Changes of the configuration file by result, ok or error.", "result")
	syncErrorsDesc  = description("sync_errors_total", "Attempts to bring the configuration into the datapath that failed in part.")
	syncedDesc      = description("synced", "1 if the datapath has all of the running configuration.")
	objectsDesc     = description("kubernetes_objects", "Objects that the agent follows: services are Fairlead's own, members the nodes that forward.", "kind")
	clusterReadDesc = description("kubernetes_synced", "1 once everything was heard of the Kubernetes API that the agent needs.")
	apiErrorsDesc   = description("kubernetes_request_errors_total", "Requests to the Kubernetes API that failed.")
	publishedDesc   = description("kubernetes_node_state_writes_total", "Times that the agent wrote its NodeState.")
	buildDesc       = description("build_info", "1, with the versions of the agent.", "version", "commit", "goversion", "records", "wire", "hash")
)

// newLatency counts how long changes take from the informer into the datapath.
func newLatency() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "fairlead_programming_seconds",
		Help:    "Time from the receipt of a changed Service or EndpointSlice to the end of its writes into the datapath.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
	})
}

// collector reads all numbers when Prometheus asks.
type collector struct{ agent *agent }

func newRegistry(a *agent) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		packetsDesc, servicePacketsDesc, serviceBytesDesc, backendsDesc, adoptedDesc, xdpModeDesc, socketFramesDesc, configValidDesc, reloadsDesc,
		syncErrorsDesc, syncedDesc, objectsDesc, clusterReadDesc, apiErrorsDesc, publishedDesc, buildDesc,
	} {
		descs <- d
	}
	for _, d := range announceDescs {
		descs <- d
	}
	descs <- c.agent.latency.Desc()
}

// Collect leaves out what cannot be read; the error is Prometheus' to show.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	out := sink{metrics}
	state := c.agent.view()
	if state.snapshot != nil {
		c.collectPackets(out)
		c.collectServices(out, state)
		c.collectSockets(out)
		for _, a := range c.agent.datapath.Attachments() {
			out.gauge(xdpModeDesc, 1, a.Interface, string(a.Mode))
		}
	}
	if c.agent.kube != nil {
		c.collectCluster(out)
	}
	if c.agent.announcer != nil {
		reports := c.agent.announcer.reports()
		reports.collect(out)
	}
	out.gauge(configValidDesc, boolean(state.configErr == nil))
	out.counter(reloadsDesc, state.reloads, "ok")
	out.counter(reloadsDesc, state.refused, "error")
	out.counter(syncErrorsDesc, state.applyErrors)
	out.gauge(syncedDesc, boolean(tablesState(state) == "synced"))
	v := thisVersion()
	out.gauge(buildDesc, 1, v.Version, v.Commit, v.Go, strconv.Itoa(v.Records), strconv.Itoa(v.Wire), strconv.Itoa(v.Hash))
}

func (c collector) collectCluster(out sink) {
	r := c.agent.kube.cluster.Report()
	for kind, n := range map[string]int{
		"services": r.Counts.Services, "endpointslices": r.Counts.Slices, "endpoints": r.Counts.Endpoints, "nodes": r.Counts.Nodes,
		"members": r.Counts.Members, "draining": r.Counts.Draining,
	} {
		out.gauge(objectsDesc, float64(n), kind)
	}
	written, _ := c.agent.kube.publisher.State()
	out.gauge(clusterReadDesc, boolean(r.Synced))
	out.counter(apiErrorsDesc, r.Errors)
	out.counter(publishedDesc, written)
	out.metrics <- c.agent.latency
}

func (c collector) collectSockets(out sink) {
	sockets, err := c.agent.datapath.sockets()
	if err != nil {
		out.metrics <- prometheus.NewInvalidMetric(socketFramesDesc, err)
	}
	for _, s := range sockets {
		queue := strconv.Itoa(s.Queue)
		out.counter(socketFramesDesc, s.Received, s.Interface, queue, "received")
		out.counter(socketFramesDesc, s.Sent, s.Interface, queue, "sent")
		out.counter(socketFramesDesc, s.Dropped, s.Interface, queue, "dropped")
		out.counter(socketFramesDesc, s.NotSent, s.Interface, queue, "not_sent")
	}
}

func (c collector) collectPackets(out sink) {
	counters, err := c.agent.datapath.Counters()
	if err != nil {
		out.metrics <- prometheus.NewInvalidMetric(packetsDesc, err)
	}
	for _, counter := range counters {
		out.counter(packetsDesc, counter.Packets, counter.Verdict, counter.Reason)
	}
}

func (c collector) collectServices(out sink, state state) {
	if state.table == nil {
		return
	}
	stats, err := c.agent.stats(state)
	if err != nil {
		out.metrics <- prometheus.NewInvalidMetric(servicePacketsDesc, err)
	}
	for _, s := range state.table.Services() {
		labels := []string{s.Name, s.Key.VIP.String(), strconv.Itoa(int(s.Key.Port)), s.Key.Proto.String()}
		if counted, ok := stats[s.Key]; ok {
			out.counter(servicePacketsDesc, counted.Packets, labels...)
			out.counter(serviceBytesDesc, counted.Bytes, labels...)
		}
		if n, adopted := state.adopted[s.Key]; adopted {
			out.gauge(adoptedDesc, float64(n), labels...)
		}
		if s.Left {
			continue // that there is no backend is no alarm
		}
		ready, draining := countBackends(s.Backends)
		out.gauge(backendsDesc, float64(ready), append(labels, "ready")...)
		out.gauge(backendsDesc, float64(draining), append(labels, "draining")...)
	}
}

func countBackends(backends []lb.Backend) (ready, draining int) {
	for _, b := range backends {
		if b.Draining {
			draining++
		} else {
			ready++
		}
	}
	return ready, draining
}

// sink sends metrics of a scrape.
type sink struct{ metrics chan<- prometheus.Metric }

func (s sink) counter(d *prometheus.Desc, n uint64, labels ...string) {
	s.metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (s sink) gauge(d *prometheus.Desc, n float64, labels ...string) {
	s.metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// errorLog gives promhttp's errors to the log.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(args ...any) { l.log.Error("scrape", "err", fmt.Sprint(args...)) }
